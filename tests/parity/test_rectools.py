"""Imported RecTools models say what RecTools itself says, on random weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.engine.engine import Engine
from model.importers.formats import import_file
from model.importers.imported import Imported
from model.importers.options import ImportOptions
from model.importers.weights import ImportFailed
from tests.model.builders import assert_close, encode
from tests.parity.comparing import (
    LENGTH,
    NUM_ITEMS,
    TOLERANCE,
    User,
    assert_same,
    randomise,
    users,
)

REASON = "needs RecTools: make parity"
pd = pytest.importorskip("pandas", reason=REASON)
rectools = pytest.importorskip("rectools", reason=REASON)
lightning = pytest.importorskip("pytorch_lightning", reason=REASON)
hstu = pytest.importorskip("rectools.models.nn.transformers.hstu", reason=REASON)
dataset = pytest.importorskip("rectools.dataset", reason=REASON)

WIDTH = 16
SETTINGS: dict[str, tuple[dict[str, Any], ImportOptions]] = {
    "both": ({"n_heads": 2, "n_blocks": 3}, ImportOptions(heads=2)),
    "time-alone": (
        {"n_heads": 1, "n_blocks": 2, "relative_pos_attention": False},
        ImportOptions(heads=1),
    ),
    "positions-alone": (
        {"n_heads": 4, "n_blocks": 2, "relative_time_attention": False},
        ImportOptions(heads=4),
    ),
    "neither": (
        {"n_heads": 2, "relative_pos_attention": False, "relative_time_attention": False},
        ImportOptions(heads=2),
    ),
    "no-absolute-positions": (
        {"n_heads": 2, "use_pos_emb": False},
        ImportOptions(heads=2, length=LENGTH),
    ),
    "no-positions-at-all": (
        {"n_heads": 2, "use_pos_emb": False, "relative_pos_attention": False},
        ImportOptions(heads=2, length=LENGTH),
    ),
    "dot": (
        {
            "n_heads": 2,
            "similarity_module_kwargs": {"distance": "dot"},
            "pos_encoding_kwargs": {"use_scale_factor": False},
            "lightning_module_kwargs": {"logits_t": 1.0},
        },
        ImportOptions(heads=2, similarity="dot", item_scale="none", temperature=1.0),
    ),
}


def trainer() -> Any:
    return lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def interactions() -> Any:
    """The users' events, and those of two more, whose windows hold every item between them."""
    rows = [
        (f"user {place}", f"item {item}", time)
        for place, user in enumerate(users())
        for item, time in zip(
            user.history.items.tolist(), user.history.timestamps.tolist(), strict=True
        )
    ]
    everything = [
        (f"reader {item // LENGTH}", f"item {item}", 1_000_000 + item) for item in range(NUM_ITEMS)
    ]
    table = pd.DataFrame(everything + rows, columns=["user_id", "item_id", "datetime"])
    table["datetime"] = pd.to_datetime(table["datetime"], unit="s").astype("datetime64[ns]")
    table["weight"] = 1
    return dataset.Dataset.construct(table)


def fitted(settings: dict[str, Any]) -> tuple[Any, Any]:
    """A model as its own `fit` builds it, its weights then replaced by random ones."""
    arguments = {"lightning_module_kwargs": {"logits_t": 0.05}} | settings
    model = hstu.HSTUModel(
        n_factors=WIDTH, session_max_len=LENGTH, get_trainer_func=trainer, **arguments
    )
    known = interactions()
    model.fit(known)
    randomise(model.lightning_model.torch_model)
    return model, known


def save(model: Any, folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save(model.lightning_model.torch_model.state_dict(), path)
    return path


def ids(model: Any) -> list[str]:
    found: list[str] = model.data_preparator.get_known_item_ids().tolist()
    return found


def answer(model: Any, user: User) -> tuple[Tensor, Tensor]:
    """The newest event's hidden state (D,) and the items' logits."""
    times = torch.full((LENGTH + 1,), int(user.history.timestamps[0]))
    times[LENGTH - len(user.history) : LENGTH] = user.history.timestamps
    times[LENGTH] = user.now
    module = model.lightning_model
    batch = {"x": user.padded_left()[None], "unix_ts": times[None]}
    with torch.no_grad():
        hidden = module.torch_model.encode_sessions(
            batch, module.torch_model.item_model.get_all_embeddings()
        )
        logits = module.torch_model(batch) / module.logits_t
    return hidden[0, -1], logits[0, -1, 1:]


@pytest.mark.parametrize("name", SETTINGS)
def test_hidden_states_and_logits_are_the_packages(name: str, tmp_path: Path) -> None:
    settings, options = SETTINGS[name]
    model, _ = fitted(settings)
    imported = import_file("rectools", save(model, tmp_path), options)
    assert imported.config.num_items == NUM_ITEMS
    for user in users(seed=1):
        assert_same(imported, user, *answer(model, user))


@pytest.mark.parametrize("setting", ["both", "positions-alone"])
def test_recommendations_are_the_packages(setting: str, tmp_path: Path) -> None:
    """Through its own sessions, request times and ranking, by external ids."""
    settings, options = SETTINGS[setting]
    model, known = fitted(settings)
    imported = import_file("rectools", save(model, tmp_path), options)
    made, context = users(), None
    names = [f"user {place}" for place in range(len(made))]
    if model.require_recommend_context:
        now = pd.to_datetime([user.now for user in made], unit="s").astype("datetime64[ns]")
        context = pd.DataFrame({"user_id": names, "datetime": now})
    table = model.recommend(names, known, k=NUM_ITEMS, filter_viewed=False, context=context)
    for name, user in zip(names, made, strict=True):
        assert_ranked(imported, ids(model), user, table[table["user_id"] == name])


def assert_ranked(imported: Imported, names: list[str], user: User, theirs: Any) -> None:
    """Their table of all items, best first, against the engine's order and cosines."""
    indices = [names.index(f"item {item}") for item in user.history.items.tolist()]
    history = replace(user.history, items=torch.tensor(indices))
    engine = Engine(imported.network())
    live = encode(engine, history, user.now).live
    assert live is not None
    best = (engine.retrieve(live) * imported.config.temperature).sort(descending=True)
    assert theirs["item_id"].tolist() == [names[index] for index in best.indices.tolist()]
    assert_close([best.values], [torch.tensor(theirs["score"].to_numpy())], TOLERANCE)


def test_a_lightning_checkpoint_is_refused_and_its_state_dict_read(tmp_path: Path) -> None:
    """The checkpoint holds the item ids as a NumPy array, which takes code to read."""
    settings, options = SETTINGS["both"]
    model, _ = fitted(settings)
    model.fit_trainer.save_checkpoint(tmp_path / "whole.ckpt")
    with pytest.raises(ImportFailed, match="export the state dict alone"):
        import_file("rectools", tmp_path / "whole.ckpt", options)
    torch.save({"state_dict": model.lightning_model.state_dict()}, tmp_path / "weights.ckpt")
    imported = import_file("rectools", tmp_path / "weights.ckpt", options)
    for user in users(seed=2):
        assert_same(imported, user, *answer(model, user))
