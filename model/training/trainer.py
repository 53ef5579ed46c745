"""Owns the training loop: epochs, validation, the best checkpoint, resuming.

Never prints: progress goes to a callback. A run folder holds the last epoch's state; a run that
was stopped continues from there with the numbers it would have had.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model.checkpoint import Checkpoint, save
from model.config import HSTUConfig
from model.history import History
from model.network.hstu import HSTU
from model.training.batches import epoch_batches, training_windows
from model.training.evaluate import evaluate
from model.training.interactions import Interactions
from model.training.losses import action_loss, retrieval_loss

HELD_OUT = 2
"""Each user's last event is the test event, the one before it the validation event."""


class TrainingOptions(BaseModel):
    """What training does; all of it goes into the checkpoint's `training` record."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    epochs: int = Field(default=100, ge=1)
    patience: int = Field(default=20, ge=1, description="epochs without a better validation")
    batch_users: int = Field(default=128, ge=1)
    max_length: int = Field(default=200, ge=1, description="events per training window")
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    action_weight: float = Field(default=0.5, ge=0, description="weight of the action loss")
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EpochReport:
    epoch: int
    loss: float
    validation: dict[str, float]
    improved: bool


class RunError(Exception):
    """A run folder belongs to other options or data; the message says which."""


class Trainer:
    """One run of one configuration on one data set, in one folder."""

    def __init__(
        self, config: HSTUConfig, options: TrainingOptions, data: Interactions, run: Path
    ) -> None:
        """Continues the run found in folder `run`, or begins it.

        Raises:
            RunError: the folder holds a run of other options, configuration or data, or
                there is nothing to train on.
        """
        self._options, self._data, self._run = options, data, run
        torch.manual_seed(options.seed)
        self.network = HSTU(config)
        self.network.retrieval.prior.copy_(data.log_shares(HELD_OUT))
        self._windows = training_windows(
            [data.history(user, 0, -HELD_OUT) for user in range(len(data))], options.max_length
        )
        if not self._windows:
            raise RunError(f"no user has more than {HELD_OUT + 1} events; nothing to train on")
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=options.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=options.weight_decay,
        )
        self._identity = {
            "config": config.model_dump(mode="json"),
            "options": options.model_dump(mode="json", exclude={"epochs", "patience"}),
            "items": data.items.digest(),
            "events": data.digest(),
        }
        self.epoch, self.best_epoch, self.best = 0, 0, -1.0
        self._resume()

    def held_out(self, which: str) -> list[History]:
        """Histories that end with the validation or the test event."""
        stop = {"validation": -1, "test": None}[which]
        enough = (user for user, n in enumerate(self._data.lengths().tolist()) if n > HELD_OUT)
        return [self._data.history(user, 0, stop) for user in enough]

    def train(self, on_batch: Callable[[int, int], None]) -> Iterator[EpochReport]:
        """Epochs until `epochs` or until `patience` runs out; `on_batch(done, total)` per step."""
        validation = self.held_out("validation")
        options = self._options
        while self.epoch < options.epochs and self.epoch - self.best_epoch < options.patience:
            loss = self._train_epoch(on_batch)
            self.epoch += 1
            metrics = evaluate(self.network, validation, batch_users=options.batch_users)
            improved = metrics["NDCG@10"] > self.best
            if improved:
                self.best, self.best_epoch = metrics["NDCG@10"], self.epoch
                save_file(self.network.state_dict(), self._run / "best.safetensors")
            self._save()
            yield EpochReport(self.epoch, loss, metrics, improved)

    def finish(self, name: str, folder: Path, source: str) -> Checkpoint:
        """Write the best epoch as a checkpoint, with its figure on the test event."""
        self.network.load_state_dict(load_file(self._run / "best.safetensors"))
        test = evaluate(self.network, self.held_out("test"), batch_users=self._options.batch_users)
        record: dict[str, object] = {
            "data": source,
            "options": self._options.model_dump(mode="json"),
            "best_epoch": self.best_epoch,
            "validation_NDCG@10": self.best,
            "test": test,
        }
        checkpoint = Checkpoint(name, self.network.eval(), self._data.items, record)
        save(checkpoint, folder)
        return checkpoint

    def _train_epoch(self, on_batch: Callable[[int, int], None]) -> float:
        options, network = self._options, self.network
        network.train()
        torch.manual_seed(options.seed * 1_000_003 + self.epoch)  # dropout, the same on resuming
        batches = list(
            epoch_batches(self._windows, options.batch_users, seed=options.seed, epoch=self.epoch)
        )
        total = 0.0
        for done, batch in enumerate(batches, start=1):
            rows = network(batch)
            loss = retrieval_loss(network, batch, rows)
            loss = loss + options.action_weight * action_loss(network, batch, rows)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            total += loss.item()
            on_batch(done, len(batches))
        return total / len(batches)

    def _save(self) -> None:
        """The run's state, written beside and renamed: a kill leaves the last whole epoch."""
        tensors = {f"model.{k}": t for k, t in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        progress = {"epoch": self.epoch, "best_epoch": self.best_epoch, "best": self.best}
        record = json.dumps(self._identity | progress)
        save_file(tensors, self._run / "state.new", metadata={"run": record})
        (self._run / "state.new").rename(self._run / "state.safetensors")

    def _resume(self) -> None:
        self._run.mkdir(parents=True, exist_ok=True)
        path = self._run / "state.safetensors"
        if not path.exists():
            return
        record = _read_record(path)
        for key, value in self._identity.items():
            if record[key] != value:
                raise RunError(
                    f"{self._run} holds a run with another {key}; choose another --run folder "
                    "or delete this one"
                )
        tensors = load_file(path)
        self.network.load_state_dict(
            {k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")}
        )
        for name, parameter in self.network.named_parameters():
            if f"step.{name}" in tensors:  # a parameter that has had a gradient
                self._optimizer.state[parameter] = {
                    key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                }
        self.epoch, self.best_epoch = record["epoch"], record["best_epoch"]
        self.best = record["best"]


def _read_record(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        record: dict[str, Any] = json.loads(file.metadata()["run"])
    return record
