"""Owns running a pass as one launch where it was captured, and as its many launches elsewhere.

Never computes. What a captured pass reads lies at fixed places, filled before each run: input rows,
and the sheet with the addresses of the users' pages. So it reads the pages of whichever users, in
a pool that may have grown since. What else it has addresses of is the stack's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from model.kernels.triton.capture import Capture
from model.kernels.triton.plan import Plan, Sheet, Sizes

MOST_ROWS: Final = 4096
"""A pass over more rows is not captured: it takes longer than its launches."""

MOST_CAPTURED: Final = 32
"""Of one kind of pass. Each keeps its input, its sheet and its result: at most some tens of MB."""

_log = logging.getLogger("mfalcon.kernels")

Run = Callable[[Tensor, Plan], Tensor]
"""Input rows (R, D) and their plan -> as many rows as `Sizes.outputs`. Never waits for the device,
and may be run again on the same: what it writes into pages is the same then."""


@dataclass(frozen=True, slots=True)
class _Captured:
    x: Tensor  # (rows, D)
    sheet: Tensor
    replay: Callable[[], None]
    result: Tensor  # (outputs, D)

    def run(self, x: Tensor, sheet: Sheet, room: Sizes) -> Tensor:
        self.fill(x, sheet, room)
        self.replay()
        return self.result[: sheet.sizes.outputs].clone()

    def fill(self, x: Tensor, sheet: Sheet, room: Sizes) -> None:
        """What a call before left behind the new rows and numbers belongs to no tile."""
        packed = sheet.packed(room, x.device)
        self.x[: len(x)].copy_(x)
        self.sheet[: len(packed)].copy_(packed, non_blocking=True)


class Passes:
    """One kind of pass, at the sizes that were captured and at all others."""

    def __init__(self, run: Run, capture: Capture | None, most_events: int) -> None:
        """`most_events` of a user in a captured pass; without `capture` there is none."""
        self._run, self._capture, self._most_events = run, capture, most_events
        self._captured: dict[Sizes, _Captured] = {}
        self._refused: set[Sizes] = set()
        self._is_capturing = False

    @property
    def num_captured(self) -> int:
        return len(self._captured)

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Capture sizes when they are met. Nothing else may use the device meanwhile."""
        self._is_capturing = True
        try:
            yield
        finally:
            self._is_capturing = False

    def __call__(self, x: Tensor, sheet: Sheet) -> Tensor:
        """Input rows (R, D) -> the sheet's outputs (outputs, D)."""
        if self._is_capturing and self._capture is not None:
            self._meet(x, sheet, self._capture)
        rooms = [room for room in self._captured if sheet.sizes.fit_into(room)]
        if rooms:
            room = min(rooms)
            return self._captured[room].run(x, sheet, room)
        packed = sheet.packed(sheet.sizes, x.device)
        there = packed.to(x.device, non_blocking=True)
        return self._run(x, Plan.at(there, sheet.sizes))

    def _meet(self, x: Tensor, sheet: Sheet, capture: Capture) -> None:
        room = sheet.sizes.room(self._most_events)
        if room in self._captured or room in self._refused:
            return
        if room.rows > MOST_ROWS or len(self._captured) == MOST_CAPTURED:
            return
        if not sheet.sizes.fit_into(room):  # more users than it has place for, or a longer history
            return
        try:
            self._captured[room] = self._made(x, sheet, room, capture)
        except Exception as error:
            self._refused.add(room)
            _log.warning("passes of %d rows are not captured: %s", room.rows, error)

    def _made(self, x: Tensor, sheet: Sheet, room: Sizes, capture: Capture) -> _Captured:
        """A captured pass that has given what the launches give, on this call's input.

        Raises whatever says that it can not be had.
        """
        own_x = x.new_zeros(room.rows, x.shape[1])
        own_sheet = torch.zeros(room.sheet, dtype=torch.int64, device=x.device)
        plan = Plan.at(own_sheet, room)
        replay, result = capture(lambda: self._run(own_x, plan))
        made = _Captured(own_x, own_sheet, replay, result)
        found = made.run(x, sheet, room)
        if not torch.equal(found, self._run(own_x, plan)[: len(found)]):
            raise ValueError("a replay differs from the launches it was captured from")
        return made
