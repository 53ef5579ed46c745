"""Owns what the kernels are told of a call: tiles of rows, addresses of pages, times.

Made on the CPU and sent in one piece: a copy to the device costs the same for few numbers and many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels.pages import PAGE_ROWS
from model.kernels.stack import CandidateRows, EventRows
from model.kernels.triton.tile import FIELDS

_Record = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """One call's users; tensors of int64 on the device. Tiles are records of `tile.FIELDS`."""

    tiles: Tensor  # (T, fields) all rows
    lasts: Tensor  # (users, fields) each user's last event row, a row of as many
    last_rows: Tensor  # (users,) where it is among all rows
    spans: Tensor  # (S, fields) the rows that have time buckets of their own
    pages: Tensor  # addresses, user by user
    times: Tensor  # Unix seconds, user by user
    block_rows: int  # most rows in a tile
    span_rows: int  # most rows in a span
    most_keys: int  # of a span, in whole pages
    num_buckets: int  # of all spans


def plan_events(users: Sequence[EventRows], block_rows: int, device: torch.device) -> Plan:
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
    parts = _send([_records(tiles), _records(lasts), torch.tensor(last_rows)], users, device)
    return Plan(
        tiles=parts[0],
        lasts=parts[1],
        last_rows=parts[2],
        spans=parts[0],
        pages=parts[3],
        times=parts[4],
        block_rows=block_rows,
        span_rows=block_rows,
        most_keys=_whole_pages(max(user.stop for user in users)),
        num_buckets=num_buckets,
    )


def plan_candidates(users: Sequence[CandidateRows], block_rows: int, device: torch.device) -> Plan:
    """Tiles of candidates, who stand behind all events; those of a user share their buckets."""
    tiles: list[_Record] = []
    spans: list[_Record] = []
    row = num_buckets = 0
    for user, origin in zip(users, _origins(users), strict=True):
        num_events = len(user.timestamps)
        spans.append((row, 1, num_events, *origin, num_buckets))
        for done in range(0, user.count, block_rows):
            count = min(block_rows, user.count - done)
            tiles.append((row + done, count, num_events, *origin, num_buckets))
        row += user.count
        num_buckets += _whole_pages(num_events + 1)
    parts = _send([_records(tiles), _records(spans)], users, device)
    return Plan(
        tiles=parts[0],
        lasts=parts[0][:0],
        last_rows=parts[0][:0],
        spans=parts[1],
        pages=parts[2],
        times=parts[3],
        block_rows=block_rows,
        span_rows=1,
        most_keys=_whole_pages(max(len(user.timestamps) for user in users) + 1),
        num_buckets=num_buckets,
    )


def _origins(users: Sequence[EventRows | CandidateRows]) -> list[tuple[int, int, int, int]]:
    """The fields from `pages_at` to `now` of each user's tiles."""
    origins, pages_at, times_at = [], 0, 0
    for user in users:
        num_events = len(user.timestamps)
        origins.append((pages_at, times_at, num_events, user.request_time))
        pages_at += len(user.rows.pages)
        times_at += num_events
    return origins


def _records(tiles: Sequence[_Record]) -> Tensor:
    return torch.tensor(tiles, dtype=torch.int64).view(-1, len(FIELDS))


def _send(
    parts: Sequence[Tensor], users: Sequence[EventRows | CandidateRows], device: torch.device
) -> list[Tensor]:
    """The parts, the page addresses and the timestamps, on the device."""
    addresses = [page.address for user in users for page in user.rows.pages]
    times = torch.cat([user.timestamps for user in users])
    all_parts = [*parts, torch.tensor(addresses, dtype=torch.int64), times]
    sizes = [part.numel() for part in all_parts]
    # Pinned memory is copied without a wait for the device, and torch keeps it until it was.
    sheet = torch.empty(sum(sizes), dtype=torch.int64, pin_memory=device.type == "cuda")
    torch.cat([part.view(-1) for part in all_parts], out=sheet)
    sent = sheet.to(device, non_blocking=True).split(sizes)
    return [there.view(here.shape) for there, here in zip(sent, all_parts, strict=True)]


def _whole_pages(num_keys: int) -> int:
    return -(-num_keys // PAGE_ROWS) * PAGE_ROWS
