"""Owns the memory in which users' K and V lie: pages of a fixed number of rows, and their reuse.

Never knows events or users. A page belongs to whoever holds it and returns to its pool when nobody
does. Rows that are held are never written again: a state may be read while its successor is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import HSTUConfig
from model.kernels.arrivals import Arrivals, arrivals_at

PAGE_ROWS: Final = 32
"""Rows of one user in a page: the width of the panels that the compiled kernel multiplies."""

_SLACK: Final = 2 * PAGE_ROWS
"""Numbers behind the last page: 32 words are loaded from its last row of values on."""

_CHUNK_BYTES: Final = 8 * 2**20


class Page:
    """Up to 32 rows of one user: for each layer and head K as (K, 32), then V as (32, V).

    In bfloat16 on a CPU two neighbours along K, and two rows of V, share a word of 32 bits:
    (K / 2, 32, 2), then (16, V, 2), with a zero behind an odd K and an odd last row.
    """

    __slots__ = ("_free", "address", "tensor")

    def __init__(self, tensor: Tensor, free: list[Tensor]) -> None:
        self.tensor = tensor  # (layers, H, numbers)
        self.address = tensor.data_ptr()
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.tensor)


class PagePool:
    """Pages for the states of one configuration. It grows by chunks, and keeps what it has."""

    def __init__(
        self,
        config: HSTUConfig,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        arrivals: Arrivals | None = None,
    ) -> None:
        self.device, self.dtype = device or torch.device("cpu"), dtype
        self._arrivals = arrivals or arrivals_at(self.device)
        self.qk_dim, self.v_dim = config.qk_dim, config.v_dim
        self.per_word = numbers_per_word(dtype, self.device)
        self.key_numbers = PAGE_ROWS * (config.qk_dim + config.qk_dim % self.per_word)
        numbers = self.key_numbers + PAGE_ROWS * config.v_dim
        self.shape = (config.num_layers, config.num_heads, numbers)
        self.page_bytes = dtype.itemsize * math.prod(self.shape)
        self._free: list[Tensor] = []

    def take(self) -> Page:
        """A page with anything in it."""
        while True:
            try:  # another thread may give pages back at any time, and take none
                return Page(self._free.pop(), self._free)
            except IndexError:
                self._grow()

    def empty(self) -> PagedRows:
        return PagedRows(self, (), 0)

    def hold(self, keys: Tensor, values: Tensor) -> PagedRows:
        """Keys (layers, H, F, K) and values (layers, H, F, V), copied into pages of their own."""
        rows = self.empty().with_room(0, keys.shape[2])
        rows.write(0, keys, values)
        return rows

    def receive(
        self,
        num_rows: int,
        parts: Sequence[Tensor],
        unpack: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]],
    ) -> PagedRows:
        """Pages for the rows that `unpack` makes of `parts`, which are on the CPU: keys and values
        as `hold` takes them. Rows on their way are there for whoever calls `settle` first."""
        rows = self.empty().with_room(0, num_rows)
        self._arrivals.add(parts, lambda there: rows.write(0, *unpack(there)))
        return rows

    def settle(self) -> None:
        """All rows received so far are in their pages for what the device does next."""
        self._arrivals.settle()

    def _grow(self) -> None:
        count = max(1, _CHUNK_BYTES // self.page_bytes)
        numbers = count * math.prod(self.shape)
        with torch.inference_mode(False):  # pages are written in and outside of it
            chunk = torch.empty(numbers + _SLACK, dtype=self.dtype, device=self.device)
            self._free += chunk[:numbers].view(count, *self.shape).unbind(0)


@dataclass(frozen=True, slots=True)
class PagedRows:
    """The rows 0 to `num_rows` of one user, in the pages of a pool."""

    pool: PagePool
    pages: tuple[Page, ...]
    num_rows: int

    @property
    def num_bytes(self) -> int:
        return len(self.pages) * self.pool.page_bytes

    def cut(self, num_rows: int) -> Self:
        """The first rows alone, in the same pages."""
        return type(self)(self.pool, self.pages[: -(-num_rows // PAGE_ROWS)], num_rows)

    def with_room(self, keep: int, num_rows: int) -> Self:
        """The first `keep` rows and room for more, up to `num_rows`.

        Full pages are shared. A page that gets new rows is a copy: others may read the old one.
        """
        num_shared, num_partial = divmod(keep, PAGE_ROWS)
        new = [self.pool.take() for _ in range(num_shared, -(-num_rows // PAGE_ROWS))]
        if num_partial and new:
            new[0].tensor.copy_(self.pages[num_shared].tensor)
        return type(self)(self.pool, (*self.pages[:num_shared], *new), num_rows)

    def read(self, first: int = 0) -> tuple[Tensor, Tensor]:
        """From row `first` on, in float32: keys (layers, H, F, K), values (layers, H, F, V)."""
        pool, start = self.pool, first // PAGE_ROWS
        pool.settle()
        rows = slice(first - start * PAGE_ROWS, self.num_rows - start * PAGE_ROWS)
        pages = [page.tensor for page in self.pages[start:]] or [pool.take().tensor]
        keys, values = self._parts(torch.stack(pages, 2))  # (layers, H, pages, numbers)
        keys = keys.movedim(-2, -3).flatten(-2)[..., : pool.qk_dim].flatten(2, 3)
        values = values.transpose(-1, -2).flatten(2, 4)
        return keys[:, :, rows].float(), values[:, :, rows].float()

    def tokens(self, first: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """From row `first` on, row by row: keys (F, layers, H, K), values (F, layers, H, V).

        In numpy, for the newest row alone is asked for at every request: an operation on so few
        numbers costs less there than in torch. Views, if they can be: while the rows are held.
        """
        pool, per, start = self.pool, self.pool.per_word, first // PAGE_ROWS
        pages = [page.tensor for page in self.pages[start:]] or [pool.take().tensor]
        together = pages[0][None] if len(pages) == 1 else torch.stack(pages)
        blocks = together.float().cpu().numpy()  # (pages, layers, H, numbers)
        lead, num_rows = blocks.shape[:3], len(pages) * PAGE_ROWS
        keys = blocks[..., : pool.key_numbers].reshape(*lead, -1, PAGE_ROWS, per)
        values = blocks[..., pool.key_numbers :].reshape(*lead, PAGE_ROWS // per, -1, per)
        keys = keys.transpose(0, 4, 1, 2, 3, 5).reshape(num_rows, *lead[1:], -1)
        values = values.transpose(0, 3, 5, 1, 2, 4).reshape(num_rows, *lead[1:], -1)
        rows = slice(first - start * PAGE_ROWS, self.num_rows - start * PAGE_ROWS)
        return keys[rows, ..., : pool.qk_dim], values[rows]

    def write(self, first: int, keys: Tensor, values: Tensor) -> None:
        """Put rows from `first` on; only into pages that nobody else holds."""
        pool, per, before = self.pool, self.pool.per_word, first % PAGE_ROWS
        if before:  # a page is made whole
            held = self.cut(first).read(first - before)
            keys, values = torch.cat((held[0], keys), 2), torch.cat((held[1], values), 2)
        rest = -keys.shape[2] % PAGE_ROWS
        keys = F.pad(keys, (0, pool.qk_dim % per, 0, rest)).unflatten(2, (-1, PAGE_ROWS))
        values = F.pad(values, (0, 0, 0, rest)).unflatten(2, (-1, PAGE_ROWS // per, per))
        blocks = torch.empty(
            *pool.shape[:2], keys.shape[2], pool.shape[2], dtype=pool.dtype, device=pool.device
        )
        k, v = self._parts(blocks)
        k.copy_(keys.unflatten(-1, (-1, per)).transpose(3, 4))
        v.copy_(values.transpose(4, 5))
        for page, block in zip(self.pages[first // PAGE_ROWS :], blocks.unbind(2), strict=True):
            page.tensor.copy_(block)

    def _parts(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """(..., numbers) -> views: keys (..., K / p, 32, p) and values (..., 32 / p, V, p)."""
        pool = self.pool
        keys, values = blocks.tensor_split((pool.key_numbers,), -1)
        per = pool.per_word
        return (
            keys.unflatten(-1, (-1, PAGE_ROWS, per)),
            values.unflatten(-1, (PAGE_ROWS // per, -1, per)),
        )


def numbers_per_word(dtype: torch.dtype, device: torch.device) -> int:
    """How many numbers of a product's sum lie beside each other, as the device multiplies them."""
    return 4 // dtype.itemsize if device.type == "cpu" else 1
