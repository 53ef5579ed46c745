"""Owns a foreign checkpoint while it is read: every tensor is taken once, and none is left over.

Never runs foreign code: safetensors only.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


class ImportFailed(Exception):
    """A foreign checkpoint can not be imported; the message names the file, field or tensor."""


class ForeignWeights:
    """A state dict that is used up tensor by tensor."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def shape(self, name: str) -> tuple[int, ...]:
        """
        Raises:
            ImportFailed: there is no such tensor.
        """
        if name not in self._left:
            raise ImportFailed(f"tensor {name} is missing")
        return tuple(self._left[name].shape)

    def take(self, name: str) -> Tensor:
        """
        Raises:
            ImportFailed: there is no such tensor.
        """
        self.shape(name)
        return self._left.pop(name).detach().float()

    def linear(self, source: str, target: str, *, bias: bool = True) -> dict[str, Tensor]:
        """The weight and bias of a module under its new name."""
        parts = ("weight", "bias") if bias else ("weight",)
        return {f"{target}.{part}": self.take(f"{source}.{part}") for part in parts}

    def drop(self, names: Iterable[str]) -> None:
        """Leave out tensors that hold nothing learned."""
        for name in names:
            self._left.pop(name, None)

    def count(self, prefix: str) -> int:
        """How many numbered modules there are under `prefix`, as in `prefix3.weight`."""
        numbers = {
            name.removeprefix(prefix).split(".")[0]
            for name in self._left
            if name.startswith(prefix)
        }
        return len(numbers)

    def finish(self) -> None:
        """
        Raises:
            ImportFailed: tensors are left that the importer does not know.
        """
        if self._left:
            raise ImportFailed(f"unknown tensors {sorted(self._left)[:8]}")


def read_weights(path: Path) -> ForeignWeights:
    """A state dict from a safetensors file.

    Raises:
        ImportFailed: missing, damaged, or of another format.
    """
    if path.suffix != ".safetensors":
        raise ImportFailed(f"{path}: save the state dict with safetensors.torch.save_file first")
    try:
        return ForeignWeights(load_file(path))
    except FileNotFoundError as error:
        raise ImportFailed(f"{path} does not exist") from error
    except (OSError, SafetensorError) as error:
        raise ImportFailed(f"{path} is not a readable safetensors file: {error}") from error
