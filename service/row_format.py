"""Owns the bytes of a stored row: its event, and its K and V of all layers as float32, bfloat16 or
int8. Never knows what else a state holds.

A row is packed by itself, so stored rows keep their bytes when others follow; and packing what was
unpacked gives the same bytes, so a state that is read and written again is not rounded twice.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cache import Dtype
from model.config import HSTUConfig

EVENT = np.dtype([("item", "<i4"), ("action", "<i4"), ("timestamp", "<i8")])

_NUMBER = {Dtype.FLOAT32: "<f4", Dtype.BFLOAT16: "<i2", Dtype.INT8: "<i1"}

_SCALE_STEPS = 8
"""Scales are powers of 2^(1/8), a byte each: a float would cost more than int8 saves on heads of 25
numbers, and the next larger step rounds at most 9% coarser than the exact scale."""

_SCALE_BIAS = 160
"""Scales of 2^-20 to 2^11.9: values beyond 470,000 are cut off there, and heads whose largest value
is below 1.2e-4 are rounded to the smallest step, within 5e-7."""

_FULL_STEPS = 127.25
"""A head's largest value is at most this many steps. Between 127 and 127.5, so that rounding stays
within 127, and where the largest value of an unpacked head still asks for the same scale."""


ROUNDING = {Dtype.FLOAT32: 0.0, Dtype.BFLOAT16: 2**-8, Dtype.INT8: 2 ** (1 / 8) / 2 / _FULL_STEPS}
"""How far a number may move: as a share of itself, in int8 of its head's largest."""

QUANTISED = tuple(dtype for dtype, rounding in ROUNDING.items() if rounding)


class RowFormat:
    """Rows of one configuration under one dtype."""

    def __init__(self, config: HSTUConfig, dtype: Dtype, device: torch.device) -> None:
        self._config, self._dtype, self._device = config, dtype, device
        layers, heads = config.num_layers, config.num_heads
        self._widths = [heads * config.qk_dim, heads * config.v_dim]
        fields: list[tuple[str, object, tuple[int, ...]]] = [
            ("event", EVENT, ()),
            ("kv", _NUMBER[dtype], (layers, sum(self._widths))),
        ]
        if dtype is Dtype.INT8:
            fields.append(("scales", "u1", (layers, 2 * heads)))
        self._fields = [name for name, *_ in fields[1:]]
        self.layout = np.dtype(fields)
        codes = torch.arange(256, dtype=torch.float64)
        self._scales = ((codes - _SCALE_BIAS) / _SCALE_STEPS).exp2().float()
        self._device_scales = self._scales.to(device)

    def pack(
        self,
        events: npt.NDArray[np.void],
        keys: npt.NDArray[np.float32],
        values: npt.NDArray[np.float32],
    ) -> bytes:
        """Keys (F, layers, H, K) and values (F, layers, H, V) of the F `events`."""
        rows = np.empty(len(events), self.layout)
        rows["event"] = events
        kv, parts = rows["kv"], self._stored(rows, keys, values)
        split = self._widths[0]
        for part, place in zip(parts, (kv[..., :split], kv[..., split:]), strict=True):
            place[:] = part.reshape(place.shape)
        return rows.tobytes()

    def _stored(
        self, rows: npt.NDArray[np.void], *parts: npt.NDArray[np.float32]
    ) -> Iterable[npt.NDArray[Any]]:
        """As they are stored; their scales go into `rows`."""
        if self._dtype is Dtype.FLOAT32:
            return parts
        tensors = [torch.from_numpy(part) for part in parts]
        if self._dtype is Dtype.BFLOAT16:
            return [tensor.bfloat16().view(torch.int16).numpy() for tensor in tensors]
        codes = [self._scale_codes(tensor) for tensor in tensors]
        rows["scales"] = torch.cat(codes, 2).numpy()
        return [self._steps(*pair).numpy() for pair in zip(tensors, codes, strict=True)]

    def numbers(self, rows: npt.NDArray[np.void]) -> list[Tensor]:
        """The stored numbers of rows of this layout, copied to where the device can fetch them."""
        return [self._copied(rows[name]) for name in self._fields]

    def _copied(self, field: npt.NDArray[np.generic]) -> Tensor:
        dtype = torch.from_numpy(np.empty(0, field.dtype)).dtype
        copy = torch.empty(field.shape, dtype=dtype, pin_memory=self._device.type == "cuda")
        copy.numpy()[...] = field
        return copy

    def unpack(self, numbers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Keys and values in float32 of what `numbers` gave, on the device by now."""
        config = self._config
        kv = numbers[0]
        if self._dtype is Dtype.BFLOAT16:
            kv = kv.view(torch.bfloat16).float()
        flat = kv.split(self._widths, 2)
        parts = [part.unflatten(2, (config.num_heads, -1)) for part in flat]
        if self._dtype is Dtype.INT8:
            scales = self._device_scales[numbers[1].int()].split(config.num_heads, 2)
            parts = [part * scale[..., None] for part, scale in zip(parts, scales, strict=True)]
        keys, values = (part.permute(1, 2, 0, 3) for part in parts)
        return keys, values

    def _scale_codes(self, part: Tensor) -> Tensor:
        """(F, layers, H, d) -> uint8 (F, layers, H): the smallest scale that holds each head."""
        largest = part.abs().amax(-1)
        steps = (largest / _FULL_STEPS).log2() * _SCALE_STEPS
        return (steps.ceil() + _SCALE_BIAS).clamp(0, 255).to(torch.uint8)

    def _steps(self, part: Tensor, codes: Tensor) -> Tensor:
        scale = self._scales[codes.int()][..., None]
        return (part / scale).round().clamp(-127, 127).to(torch.int8)
