"""Owns the machine's matrix rate: plain matrix products, as fast as torch does them here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}


@dataclass(frozen=True, slots=True)
class MatrixRate:
    size: int  # of the square matrices that were multiplied fastest
    operations_per_ms: float

    def floor_ms(self, num_operations: int) -> float:
        """How long these operations would take as plain matrix products."""
        return num_operations / self.operations_per_ms


def matrix_contenders(device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Products of square matrices of a few sizes, to take turns with what is measured."""
    return {_name(size): _product(size, device, dtype) for size in _SIZES[device.type]}


def matrix_rate(median_ms: Mapping[str, float], device: torch.device) -> MatrixRate:
    """The best of the sizes."""
    rates = {size: 2 * size**3 / median_ms[_name(size)] for size in _SIZES[device.type]}
    best = max(rates, key=rates.__getitem__)
    return MatrixRate(best, rates[best])


def _name(size: int) -> str:
    return f"matrix product {size}"


def _product(size: int, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)
