"""Owns a foreign state dict while it is read: every tensor is taken once, and none is left over.

Never reads files.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

from model.errors import InputError


class ImportFailed(InputError):
    """A foreign checkpoint can not be imported; the message names the file, option or tensor."""


class ForeignWeights:
    """A state dict that is used up tensor by tensor."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def strip(self, prefix: str) -> None:
        """Take `prefix` off every name, if every name has it."""
        if all(name.startswith(prefix) for name in self._left):
            self._left = {name.removeprefix(prefix): t for name, t in self._left.items()}

    def shape(self, name: str, num_dims: int = 2) -> tuple[int, ...]:
        """
        Raises:
            ImportFailed: there is no such tensor, or it has another number of dimensions.
        """
        if name not in self._left:
            raise ImportFailed(f"tensor {name} is missing")
        shape = tuple(self._left[name].shape)
        if len(shape) != num_dims or 0 in shape:
            raise ImportFailed(f"tensor {name} has an impossible shape {list(shape)}")
        return shape

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor of exactly this shape, as float32.

        Raises:
            ImportFailed: there is no such tensor, or it is of another shape, not floating point,
                or holds a number that is not finite.
        """
        found = list(self._left[name].shape) if name in self._left else None
        if found is None:
            raise ImportFailed(f"tensor {name} is missing")
        if found != list(shape):
            raise ImportFailed(f"tensor {name} has shape {found}; the others need {list(shape)}")
        tensor = self._left.pop(name).detach()
        if not tensor.is_floating_point():
            raise ImportFailed(f"tensor {name} holds {tensor.dtype}, not floating point numbers")
        tensor = tensor.float()
        if not bool(tensor.isfinite().all()):
            raise ImportFailed(f"tensor {name} holds NaN or infinite values")
        return tensor

    def linear(self, source: str, target: str, *shape: int) -> dict[str, Tensor]:
        """A module's weight of this shape, and its bias of the first dimension, under a new name.

        Raises:
            ImportFailed: as `take`.
        """
        return {
            f"{target}.weight": self.take(f"{source}.weight", *shape),
            f"{target}.bias": self.take(f"{source}.bias", shape[0]),
        }

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
