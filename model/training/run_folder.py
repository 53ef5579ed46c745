"""Owns the folder of a run: the last whole epoch, and the best one.

Never decides when. Files are written beside and renamed: a kill leaves what was there.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from model.errors import InputError

STATE, BEST = "state.safetensors", "best.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class RunError(InputError):
    """A run can not go on, or not in this folder; the message says what to do."""


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self) -> dict[str, Any] | None:
        """What was saved beside the last whole epoch's tensors; None for a new run.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / STATE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                record: dict[str, Any] = json.loads(file.metadata()["run"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error}); delete it to begin anew") from error
        return record

    def restore(self, network: nn.Module, optimizer: Optimizer, average: nn.Module | None) -> None:
        """The weights, the optimizer's moments and the average of the last whole epoch."""
        tensors = load_file(self.path / STATE)
        network.load_state_dict(_named("model.", tensors))
        if average is not None:
            average.load_state_dict(_named("average.", tensors))
        for name, parameter in network.named_parameters():
            if f"step.{name}" in tensors:  # a parameter that has had a gradient
                optimizer.state[parameter] = {"step": tensors[f"step.{name}"]} | {
                    key: tensors[f"{key}.{name}"].to(parameter.device) for key in _MOMENTS
                }

    def save(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        average: nn.Module | None,
        record: dict[str, Any],
    ) -> None:
        tensors = {f"model.{k}": t for k, t in network.state_dict().items()}
        if average is not None:
            tensors |= {f"average.{k}": t for k, t in average.state_dict().items()}
        for name, parameter in network.named_parameters():
            for key, value in optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        self._write(STATE, tensors, {"run": json.dumps(record)})

    def save_best(self, network: nn.Module) -> None:
        self._write(BEST, network.state_dict(), {})

    def restore_best(self, network: nn.Module) -> None:
        network.load_state_dict(load_file(self.path / BEST))

    def _write(self, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        new = self.path / f"{name}.new"
        save_file(tensors, new, metadata=metadata)
        new.rename(self.path / name)


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those under a prefix, without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
