"""Owns the training loop: epochs, validation, the best checkpoint, resuming.

Never prints: progress goes to a callback. A run folder holds the last epoch's state; a run that
was stopped continues from there with the numbers it would have had.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch

from model.checkpoint import Checkpoint, save
from model.config import HSTUConfig
from model.data.interactions import Interactions
from model.evaluation.leave_one_out import Case, predict
from model.evaluation.metrics import action_nll, ranking_metrics
from model.history import History
from model.network.batch import Batch
from model.network.hstu import HSTU
from model.operations import Operations
from model.training import curve
from model.training.average import Average
from model.training.batches import epoch_steps, parts_of, thinned, training_windows
from model.training.curve import EpochReport
from model.training.features import share, summed
from model.training.losses import Objective, count
from model.training.options import TrainingOptions
from model.training.processes import Processes
from model.training.run_folder import RunError, RunFolder

_ALONE = Processes()


class Trainer:
    """One run of one configuration on one data set, in one folder."""

    def __init__(
        self,
        config: HSTUConfig,
        options: TrainingOptions,
        data: Interactions,
        run: Path,
        processes: Processes = _ALONE,
        start: Checkpoint | None = None,
    ) -> None:
        """Continues the run found in folder `run`, or begins it, from `start` if one is given.

        Raises:
            RunError: the folder holds a run of other options, configuration or data, `start` is
                of another configuration or other items, the processes can not share a step's
                parts evenly, or there is nothing to train on.
            FeatureError: the items have no such features.
        """
        self.folder = RunFolder(run)
        self._options, self._data, self._processes = options, data, processes
        self._start = start
        if options.accumulate % processes.count:
            raise RunError(
                f"{processes.count} processes can not share {options.accumulate} parts of a step "
                f"evenly; choose a multiple of {processes.count} for --accumulate"
            )
        self.epoch, self.best_epoch, self.best = 0, 0, -1.0
        self.reports: list[EpochReport] = []
        torch.manual_seed(options.seed)
        self._seen = data.without_last(options.num_held_out, with_ties=options.hold_out == "ties")
        network = HSTU(config)
        if start is not None:
            _copy(start, network, data)
        network.retrieval.prior.copy_(self._seen.log_shares())
        if options.item_features is not None:
            share(network, data.items, options.item_features, options.item_dropout)
        self.network = network.to(processes.device)
        self._objective = Objective(
            self.network,
            loss=options.loss,
            num_negatives=options.num_negatives,
            negatives=options.negatives,
            action_weight=options.action_weight,
        )
        if not self._windows():
            raise RunError(
                f"no user has more than {options.num_held_out + 1} events; nothing to train on"
            )
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=options.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=options.weight_decay,
        )
        self._average = Average(self.network, options.averaging)
        self._identity = {
            "config": config.model_dump(mode="json"),
            "options": options.identity,
            "start": start.digests().fingerprint.hex() if start else None,
            "items": data.items.digest(),
            "events": data.digest(),
        }
        self._resume()

    def held_out(self, which: Literal["validation", "test"]) -> list[Case]:
        """Histories that end with the validation or the test event."""
        stop = {"validation": -1, "test": None}[which]
        lengths = self._data.lengths().tolist()
        # One event more than the two that are predicted: there is a history to predict from.
        enough = (user for user, length in enumerate(lengths) if length > 2)
        histories = (self._data.history(user, 0, stop) for user in enough)
        known = slice(-1) if self._options.exclude_seen else slice(0)
        return [Case(history, history.items[known]) for history in histories]

    def train(self, on_batch: Callable[[int, int], None]) -> Iterator[EpochReport]:
        """Epochs until `epochs` or until `patience` runs out; `on_batch(done, total)` per step."""
        options = self._options
        validation = self.held_out("validation")
        self.folder.path.mkdir(parents=True, exist_ok=True)
        while self.epoch < options.epochs and not self._out_of_patience():
            began = time.monotonic()
            loss = self._train_epoch(on_batch)
            seconds = time.monotonic() - began
            self.epoch += 1
            metrics: dict[str, float] = {}
            improved = False
            if self._validates():
                if self._processes.leads:
                    metrics = self._figures(validation)
                figure = self._processes.agree(metrics.get("NDCG@10", 0.0))
                improved = figure > self.best
                if improved:
                    self.best, self.best_epoch = figure, self.epoch
            report = EpochReport(self.epoch, loss, metrics, improved, seconds)
            if self._processes.leads:
                self._keep(report)
            yield report

    def _validates(self) -> bool:
        options = self._options
        if options.num_held_out < 2:
            return False
        return self.epoch % options.validate_every == 0 or self.epoch == options.epochs

    def _out_of_patience(self) -> bool:
        return self._validates() and self.epoch - self.best_epoch >= self._options.patience

    def finish(
        self,
        name: str,
        folder: Path,
        source: str,
        *,
        select: Literal["best", "last"] = "best",
        with_metadata: bool = True,
    ) -> Checkpoint:
        """Write an epoch as a checkpoint, with its figure on the test event.

        Args:
            with_metadata: keep the items' titles and the like, which a data set's terms may forbid
        """
        epoch, chosen = self.epoch, "the last"
        if select == "best" and self._options.num_held_out > 1:
            epoch, chosen = self.best_epoch, "best validation NDCG@10"
            self.folder.restore_best(self._average.network)
        test = self._figures(self.held_out("test"))
        record: dict[str, object] = {
            "data": source,
            "events": self._identity["events"],
            "options": self._options.model_dump(mode="json"),
            "epoch": f"{epoch}, {chosen}",
            "start": self._start.training if self._start else None,
            "test": test,
        }
        items = self._data.items if with_metadata else self._data.items.ids_only()
        checkpoint = Checkpoint(name, summed(self._average.network).eval(), items, record)
        save(checkpoint, folder)
        return checkpoint

    def operations_per_epoch(self) -> int:
        """Floating-point, forward and backward, of the matrix products of the first epoch; others
        have as many, but for what is left out at random."""
        options, counting = self._options, Operations(self.network.config)
        competing = options.num_negatives + 1 if options.loss == "sampled" else None
        lengths = [len(window) for window in self._windows()]
        total = sum(counting.learn_items(length, competing) for length in lengths)
        if self.network.config.tasks and options.action_weight:
            total += sum(map(counting.learn_actions, lengths)) // options.action_every
        return total

    def _figures(self, cases: list[Case]) -> dict[str, float]:
        """HR@K and NDCG@K, and `action_nll` in nats where events carry actions."""
        network = self._average.network
        predictions = predict(network, cases, batch_users=self._options.batch_users)
        metrics, loss = ranking_metrics(predictions.ranks), action_nll(predictions)
        return metrics if loss is None else metrics | {"action_nll": loss}

    def _windows(self) -> list[History]:
        """This epoch's, the same whatever happened before."""
        options, seen = self._options, self._seen
        histories = seen.histories()
        if options.shuffle_ties:
            generator = torch.Generator().manual_seed(self._epoch_seed)
            mixed = seen.shuffle_ties(self._epoch_seed)
            chosen = torch.rand(len(seen), generator=generator) < options.shuffle_ties
            for user in chosen.nonzero().flatten().tolist():
                histories[user] = mixed.history(user)
        if options.drop_events:
            histories = thinned(histories, options.drop_events, seed=self._epoch_seed)
        return training_windows(
            histories, self.network.config.window.capacity, last_only=options.windows == "last"
        )

    @property
    def _epoch_seed(self) -> int:
        """Of all that is drawn for this epoch: ties, order, batches."""
        return self._options.seed * 1_000_003 + self.epoch

    def _train_epoch(self, on_batch: Callable[[int, int], None]) -> float:
        options = self._options
        self.network.train()
        windows = self._windows()
        steps = epoch_steps(windows, options.batch_users, seed=self._epoch_seed)
        total = 0.0
        for number, step in enumerate(steps):
            done = self.epoch * len(steps) + number
            if options.decay == "linear":
                left = 1 - done / (options.epochs * len(steps))
                self._optimizer.param_groups[0]["lr"] = options.learning_rate * left
            parts = parts_of([windows[i] for i in step], options.accumulate)
            total += self._step(parts, done)
            on_batch(number + 1, len(steps))
        loss = total / len(steps)
        if not math.isfinite(loss):
            raise RunError(
                f"the loss of epoch {self.epoch + 1} is {loss}; choose a lower --learning-rate and "
                "another --run-folder"
            )
        return loss

    def _step(self, parts: list[Batch], number: int) -> float:
        """One update, and its loss over all parts; dropout depends on the part alone."""
        options, processes = self._options, self._processes
        counts = count(self.network.config, parts)
        with_actions = number % options.action_every == 0
        self._optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=processes.device)
        for place, part in processes.share(parts):
            torch.manual_seed((options.seed * 1_000_003 + number) * 1_009 + place)
            batch = part.to(processes.device)
            with torch.autocast(
                processes.device.type, torch.bfloat16, enabled=options.precision == "bfloat16"
            ):
                loss = self._objective(batch, counts, with_actions)
            loss.backward()
            total += loss.detach()
        processes.sum_gradients(self.network)
        self._optimizer.step()
        self._average.update()
        return float(processes.sum(total))

    def _keep(self, report: EpochReport) -> None:
        if report.improved:
            self.folder.save_best(self._average.network)
        self.reports.append(report)
        curve.write(self.folder.path, self.reports)
        progress = {"epoch": self.epoch, "best_epoch": self.best_epoch, "best": self.best}
        record = self._identity | progress
        self.folder.save(self.network, self._optimizer, self._average.model, record)

    def _resume(self) -> None:
        record = self.folder.record()
        if record is None:
            return
        # An older run may lack fields that came later; they have their defaults there.
        found = record | {
            "config": HSTUConfig.model_validate(record["config"]).model_dump(mode="json"),
            "options": TrainingOptions.model_validate(record["options"]).identity,
        }
        for key, value in self._identity.items():
            if found.get(key) != value:
                raise RunError(
                    f"{self.folder.path} holds a run with another {key}; choose another "
                    "--run-folder or delete this one"
                )
        self.folder.restore(self.network, self._optimizer, self._average.model)
        self.epoch, self.best_epoch = record["epoch"], record["best_epoch"]
        self.best = record["best"]
        self.reports = curve.read(self.folder.path, self.epoch)


def _copy(start: Checkpoint, network: HSTU, data: Interactions) -> None:
    if start.config != network.config or start.items.ids != data.items.ids:
        raise RunError(
            f"{start.name} has another configuration or other items; a run can start only from a "
            "checkpoint of the same"
        )
    network.load_state_dict(start.network.state_dict())
