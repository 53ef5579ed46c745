"""Owns which jobs run together: the oldest, and as many after it as are worth waiting for.

Never waits for company and never runs anything.

Small jobs gain from company: their calls cost as much as some tens of rows, and products of a few
rows are slow. Past some hundreds of rows a pass costs what its rows cost. So the rows encoded
together, which the oldest waits for before it is scored, are bounded by a pass, and the candidates,
scored pass by pass, by what the next batch can wait for.
"""

from dataclasses import dataclass
from typing import Final

from service.deadline import Deadline

_JOB_ROWS: Final = 32
"""What running a job costs beside its rows, in rows: its calls into torch, layer by layer."""

_SMOOTHING: Final = 0.1
_GUESS_S: Final = 20e-6


@dataclass(frozen=True, slots=True)
class Work:
    """What a job costs, in rows; as far as can be told before it is run."""

    num_events: int  # event rows to encode
    num_candidates: int

    @property
    def encode_rows(self) -> int:
        return _JOB_ROWS + self.num_events

    @property
    def num_rows(self) -> int:
        return self.encode_rows + self.num_candidates


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one batch. A job that exceeds them alone runs alone."""

    encode_rows: int
    num_rows: int


class Pace:
    """Seconds per row, learned from the batches so far."""

    def __init__(self) -> None:
        self.row_s = _GUESS_S

    def learn(self, num_rows: int, seconds: float) -> None:
        self.row_s += _SMOOTHING * (seconds / num_rows - self.row_s)


class Batch:
    """What runs together, filled oldest first."""

    def __init__(self, bounds: Bounds, pace: Pace, now_s: float) -> None:
        self._bounds, self._row_s, self._now_s = bounds, pace.row_s, now_s
        self._encode_rows = self._num_rows = 0
        self._deadlines_s: list[float] = []

    def admits(self, work: Work, deadline: Deadline | None) -> bool:
        """Take a job in if it fits, and if every deadline that holds without it holds with it."""
        encode_rows = self._encode_rows + work.encode_rows
        num_rows = self._num_rows + work.num_rows
        if self._num_rows:
            if encode_rows > self._bounds.encode_rows or num_rows > self._bounds.num_rows:
                return False
            without, end = self._ends_s(self._num_rows), self._ends_s(num_rows)
            if any(without <= deadline_s < end for deadline_s in self._deadlines_s):
                return False
        self._encode_rows, self._num_rows = encode_rows, num_rows
        if deadline is not None:
            self._deadlines_s.append(deadline.at_s)
        return True

    def _ends_s(self, num_rows: int) -> float:
        return self._now_s + num_rows * self._row_s
