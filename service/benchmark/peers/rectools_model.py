"""Owns the other side: RecTools' HSTU with random weights, and its `recommend` for one user.

Never counts against it what a team would keep: the model is fitted, the data set is made, and it
holds that one user. RecTools comes with `make parity` and is imported by whoever asks for it.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from model.checkpoint import Checkpoint, save
from model.errors import InputError
from model.importers.formats import import_file
from model.importers.options import ImportOptions
from model.items import Items
from service.benchmark.load.traffic import Happened, request_time
from service.benchmark.shapes import Shape

_USER = "user"
_TEMPERATURE = 0.05


class RecToolsMissing(InputError):
    """RecTools is not installed in this environment; the message says what to do."""

    def __init__(self) -> None:
        super().__init__(
            "RecTools is not installed here; `make parity` installs it beside the project: "
            ".venv-parity/bin/mfalcon bench rectools"
        )


@dataclass(frozen=True, slots=True)
class Recommended:
    """Best first."""

    item_ids: list[str]
    scores: list[float]  # cosines


class RecToolsModel:
    """HSTU-large as RecTools builds it, of `shape`'s layers, width and heads."""

    def __init__(self, shape: Shape, num_items: int, *, positions: bool, seed: int) -> None:
        """`positions`: with absolute positions, counted from the newest event, or without.

        Raises:
            RecToolsMissing: it can not be imported.
        """
        try:
            import pandas
            from rectools.models.nn.transformers.hstu import HSTUModel
        except ImportError as error:
            raise RecToolsMissing from error
        self._pandas, self._shape = pandas, shape
        self._model = HSTUModel(
            n_blocks=shape.num_layers,
            n_factors=shape.d_model,
            n_heads=shape.num_heads,
            session_max_len=shape.num_events,
            use_pos_emb=positions,
            lightning_module_kwargs={"logits_t": _TEMPERATURE},
            get_trainer_func=_trainer,
        )
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        with warnings.catch_warnings(action="ignore"):  # of its own calls
            self._model.fit(self._every_item(num_items))
        self._randomise(seed)

    @property
    def item_ids(self) -> list[str]:
        """In the order of its item table."""
        ids: list[str] = self._model.data_preparator.get_known_item_ids().tolist()
        return ids

    def save(self, folder: Path) -> None:
        """Its weights as a checkpoint of this project, by the importer."""
        weights = folder.with_suffix(".safetensors")
        state = self._model.lightning_model.torch_model.state_dict()
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, weights)
        options = ImportOptions(heads=self._shape.num_heads, length=self._shape.num_events)
        imported = import_file("rectools", weights, options)
        items = Items([{"item_id": item_id} for item_id in self.item_ids])
        save(Checkpoint(folder.name, imported.network(), items), folder)

    def prepared(self, history: Sequence[Happened], candidates: Sequence[int]) -> "Prepared":
        """One user, the items to rank, and the time of the request, as `recommend` takes them."""
        ids = self.item_ids
        rows = [(_USER, ids[event.item], event.timestamp) for event in history]
        now = self._times([request_time(history[-1])])
        context = self._pandas.DataFrame({"user_id": [_USER], "datetime": now})
        return Prepared(
            self._model, self._dataset(rows), [ids[item] for item in candidates], context
        )

    def _every_item(self, num_items: int) -> Any:
        """Users whose windows hold every item between them: what it does not see, it forgets."""
        length = self._shape.num_events
        return self._dataset(
            [
                (f"reader {item // length}", f"item-{item}", 1_000_000 + item)
                for item in range(num_items)
            ]
        )

    def _dataset(self, rows: Sequence[tuple[str, str, int]]) -> Any:
        from rectools.dataset import Dataset

        table = self._pandas.DataFrame(rows, columns=["user_id", "item_id", "datetime"])
        table["datetime"] = self._times(table["datetime"])
        table["weight"] = 1
        return Dataset.construct(table)

    def _times(self, seconds: Any) -> Any:
        return self._pandas.to_datetime(seconds, unit="s").astype("datetime64[ns]")

    def _randomise(self, seed: int) -> None:
        """Weights large enough for items to differ; those of `fit` come of one step."""
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self._model.lightning_model.torch_model.named_parameters():
                if not ("norm" in name and name.endswith("weight")):
                    parameter.normal_(std=0.1)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call of `recommend`."""

    model: Any
    dataset: Any
    item_ids: list[str]
    context: Any

    def recommend(self, count: int) -> Recommended:
        table = self.model.recommend(
            [_USER],
            self.dataset,
            k=count,
            filter_viewed=False,
            items_to_recommend=self.item_ids,
            context=self.context,
        )
        return Recommended(table["item_id"].tolist(), table["score"].tolist())


def _trainer() -> Any:
    import pytorch_lightning

    return pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
