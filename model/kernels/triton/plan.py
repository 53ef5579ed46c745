"""Owns what the kernels are told of a call: tiles of rows, addresses of pages, times.

Made on the CPU as a `Sheet` of numbers and sent in one piece: a copy to the device costs the same
for few numbers and many. There it is read as a `Plan`, which may have room for more than was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor

from model.kernels.pages import PAGE_ROWS
from model.kernels.stack import CandidateRows, EventRows
from model.kernels.triton.tile import FIELDS

MOST_USERS: Final = 32
"""For whom a room has place."""

LEAST_ROWS: Final = 64
"""Of a room. A GPU takes as long for fewer."""

_STEP_ROWS: Final = 512
"""Rooms for more rows than this are a multiple of it, those for fewer a power of two."""

_Record = tuple[int, ...]


class Sizes(NamedTuple):
    """All that the launches of a call depend on: calls of the same sizes differ in what lies on the
    device alone."""

    rows: int
    tiles: int
    lasts: int  # of candidates: none
    spans: int  # of event rows: none, as tiles are
    numbers: int  # page addresses and timestamps
    block_rows: int  # most rows in a tile
    span_rows: int  # most rows in a span
    most_keys: int  # of a span, in whole pages
    num_buckets: int  # of all spans

    @property
    def outputs(self) -> int:
        """Rows of the result: of each user the last, or all candidates."""
        return self.lasts or self.rows

    @property
    def head(self) -> list[int]:
        """Numbers of a sheet's parts that lie before `numbers`: tiles, lasts, last rows, spans."""
        fields = len(FIELDS)
        return [self.tiles * fields, self.lasts * fields, self.lasts, self.spans * fields]

    @property
    def sheet(self) -> int:
        """Numbers of a sheet."""
        return sum(self.head) + self.numbers

    def parts(self, sheet: Tensor) -> tuple[Tensor, ...]:
        """Views of a sheet, which may end within `numbers`."""
        head = self.head
        parts: tuple[Tensor, ...] = sheet.split([*head, len(sheet) - sum(head)])
        return parts

    def fit_into(self, room: Sizes) -> bool:
        return self.block_rows == room.block_rows and all(
            mine <= theirs for mine, theirs in zip(self, room, strict=True)
        )

    def room(self, most_events: int) -> Sizes:
        """Sizes that many calls share: a round number of rows, and histories of `most_events`."""
        rows = max(LEAST_ROWS, 1 << (self.rows - 1).bit_length())
        if rows > _STEP_ROWS:
            rows = -(-self.rows // _STEP_ROWS) * _STEP_ROWS
        most_keys = _whole_pages(most_events + 1)
        return Sizes(
            rows=rows,
            tiles=rows // self.block_rows + MOST_USERS,
            lasts=MOST_USERS if self.lasts else 0,
            spans=MOST_USERS if self.spans else 0,
            numbers=MOST_USERS * (most_keys + most_keys // PAGE_ROWS),
            block_rows=self.block_rows,
            span_rows=self.span_rows,
            most_keys=most_keys,
            num_buckets=most_keys * (rows if self.lasts else MOST_USERS),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """One call's users; tensors of int64 on the device. Tiles are records of `tile.FIELDS`.

    Where there are fewer than the sizes say, the others are of no rows.
    """

    sizes: Sizes
    tiles: Tensor  # (T, fields) all rows
    lasts: Tensor  # (users, fields) each user's last event row, a row of as many
    last_rows: Tensor  # (users,) where it is among all rows
    spans: Tensor  # (S, fields) the rows that have time buckets of their own
    numbers: Tensor  # page addresses user by user, then Unix seconds user by user

    @classmethod
    def at(cls, sheet: Tensor, sizes: Sizes) -> Plan:
        """What lies in a sheet of these sizes, now or when it is read."""
        tiles, lasts, last_rows, spans, numbers = sizes.parts(sheet)
        tiles, lasts, spans = (part.view(-1, len(FIELDS)) for part in (tiles, lasts, spans))
        return cls(sizes, tiles, lasts, last_rows, spans if sizes.spans else tiles, numbers)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The numbers of a plan, on the CPU."""

    sizes: Sizes
    parts: tuple[Tensor, ...]  # those of `Sizes.parts`

    def packed(self, room: Sizes, device: torch.device) -> Tensor:
        """A sheet of `room`, up to the last of the numbers; to be sent to the device."""
        length = sum(room.head) + self.sizes.numbers
        # Pinned memory is copied without a wait for the device, and torch keeps it until it was.
        sheet = torch.zeros(length, dtype=torch.int64, pin_memory=device.type == "cuda")
        for there, part in zip(room.parts(sheet), self.parts, strict=True):
            there[: len(part)] = part
        return sheet


def event_sheet(users: Sequence[EventRows], block_rows: int) -> Sheet:
    """Tiles of event rows; each row has its own buckets, up to the end of its tile's last page."""
    tiles: list[_Record] = []
    lasts: list[_Record] = []
    last_rows = []
    row = num_buckets = 0
    for user, origin in zip(users, _origins(users), strict=True):
        for position in range(user.start, user.stop, block_rows):
            count = min(block_rows, user.stop - position)
            width = _whole_pages(position + count)
            tiles.append((row, count, position, *origin, num_buckets))
            row += count
            num_buckets += count * width
        lasts.append((len(lasts), 1, user.stop - 1, *origin, num_buckets - width))
        last_rows.append(row - 1)
    numbers = _numbers(users)
    sizes = Sizes(
        rows=row,
        tiles=len(tiles),
        lasts=len(lasts),
        spans=0,
        numbers=len(numbers),
        block_rows=block_rows,
        span_rows=block_rows,
        most_keys=_whole_pages(max(user.stop for user in users)),
        num_buckets=num_buckets,
    )
    rows = torch.tensor(last_rows, dtype=torch.int64)
    return Sheet(sizes, (_records(tiles), _records(lasts), rows, _records([]), numbers))


def candidate_sheet(users: Sequence[CandidateRows], block_rows: int) -> Sheet:
    """Tiles of candidates, who stand behind all events; those of a user share their buckets."""
    tiles: list[_Record] = []
    spans: list[_Record] = []
    row = num_buckets = 0
    for user, origin in zip(users, _origins(users), strict=True):
        num_events = len(user.history.timestamps)
        spans.append((row, 1, num_events, *origin, num_buckets))
        for done in range(0, user.count, block_rows):
            count = min(block_rows, user.count - done)
            tiles.append((row + done, count, num_events, *origin, num_buckets))
        row += user.count
        num_buckets += _whole_pages(num_events + 1)
    numbers = _numbers(users)
    sizes = Sizes(
        rows=row,
        tiles=len(tiles),
        lasts=0,
        spans=len(spans),
        numbers=len(numbers),
        block_rows=block_rows,
        span_rows=1,
        most_keys=_whole_pages(max(len(user.history.timestamps) for user in users) + 1),
        num_buckets=num_buckets,
    )
    nothing = _records([])
    return Sheet(sizes, (_records(tiles), nothing, nothing, _records(spans), numbers))


def _origins(users: Sequence[EventRows | CandidateRows]) -> list[tuple[int, int, int, int]]:
    """The fields from `pages_at` to `now` of each user's tiles."""
    origins, pages_at = [], 0
    times_at = sum(len(user.rows.pages) for user in users)
    for user in users:
        num_events = len(user.history.timestamps)
        origins.append((pages_at, times_at, num_events, user.request_time))
        pages_at += len(user.rows.pages)
        times_at += num_events
    return origins


def _records(tiles: Sequence[_Record]) -> Tensor:
    return torch.tensor(tiles, dtype=torch.int64).flatten()


def _numbers(users: Sequence[EventRows | CandidateRows]) -> Tensor:
    addresses = [page.address for user in users for page in user.rows.pages]
    times = [user.history.timestamps for user in users]
    return torch.cat([torch.tensor(addresses, dtype=torch.int64), *times])


def _whole_pages(num_keys: int) -> int:
    return -(-num_keys // PAGE_ROWS) * PAGE_ROWS
