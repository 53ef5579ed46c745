"""Owns the memory in which users' K and V lie: pages of a fixed number of rows, and their reuse.

Never knows events or users. A page belongs to whoever holds it and returns to its pool when nobody
does. Rows that are held are never written again: a state may be read while its successor is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

from model.config import HSTUConfig

PAGE_ROWS: Final = 32
"""Rows of one user in a page: the width of the panels that the compiled kernel multiplies."""

_SLACK: Final = PAGE_ROWS
"""Numbers behind the last page: whole vectors are loaded from its last row of values."""

_CHUNK_BYTES: Final = 8 * 2**20


class Page:
    """Up to 32 rows of one user: for each layer and head K as (K, 32), then V as (32, V)."""

    __slots__ = ("_free", "address", "tensor")

    def __init__(self, tensor: Tensor, free: list[Tensor]) -> None:
        self.tensor = tensor  # (layers, H, 32 * (K + V))
        self.address = tensor.data_ptr()
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.tensor)


class PagePool:
    """Pages for the states of one configuration. It grows by chunks, and keeps what it has."""

    def __init__(self, config: HSTUConfig, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.qk_dim, self.v_dim = config.qk_dim, config.v_dim
        numbers = PAGE_ROWS * (config.qk_dim + config.v_dim)
        self._shape = (config.num_layers, config.num_heads, numbers)
        self.page_bytes = 4 * config.num_layers * config.num_heads * numbers
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

    def _grow(self) -> None:
        count = max(1, _CHUNK_BYTES // self.page_bytes)
        numbers = count * self.page_bytes // 4
        with torch.inference_mode(False):  # pages are written in and outside of it
            chunk = torch.empty(numbers + _SLACK, device=self.device)
            self._free += chunk[:numbers].view(count, *self._shape).unbind(0)


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
        """Copies of keys (layers, H, F, K) and values (layers, H, F, V) from row `first` on."""
        start = first // PAGE_ROWS
        pages = [page.tensor for page in self.pages[start:]]
        rows = slice(first - start * PAGE_ROWS, self.num_rows - start * PAGE_ROWS)
        blocks = torch.stack(pages, 2) if pages else self._nothing()
        keys, values = self._parts(blocks)
        return keys.transpose(3, 4).flatten(2, 3)[:, :, rows], values.flatten(2, 3)[:, :, rows]

    def write(self, first: int, keys: Tensor, values: Tensor) -> None:
        """Put rows from `first` on; only into pages that nobody else holds."""
        row, stop = first, first + keys.shape[2]
        while row < stop:
            at, page = row % PAGE_ROWS, self.pages[row // PAGE_ROWS]
            count = min(stop - row, PAGE_ROWS - at)
            taken = slice(row - first, row - first + count)
            k, v = self._parts(page.tensor)
            k[..., at : at + count].copy_(keys[:, :, taken].transpose(2, 3))
            v[..., at : at + count, :].copy_(values[:, :, taken])
            row += count

    def _parts(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 32 * (K + V)) -> views of the keys (..., K, 32) and of the values (..., 32, V)."""
        pool = self.pool
        keys, values = blocks.split((PAGE_ROWS * pool.qk_dim, PAGE_ROWS * pool.v_dim), -1)
        return keys.unflatten(-1, (-1, PAGE_ROWS)), values.unflatten(-1, (PAGE_ROWS, -1))

    def _nothing(self) -> Tensor:
        layers, heads, numbers = self.pool._shape
        return torch.empty(layers, heads, 0, numbers, device=self.pool.device)
