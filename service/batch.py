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
_GUESS_ROWS: Final = 100
"""How much the guess counts: as much as a pass of so many rows."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a job costs, in rows; as far as can be told before it is run."""

    num_events: int  # event rows to encode
    num_candidates: int
    num_jobs: int = 1  # histories that are encoded: a slate extends each branch in each step

    @property
    def encode_rows(self) -> int:
        return _JOB_ROWS * self.num_jobs + self.num_events

    @property
    def num_rows(self) -> int:
        return self.encode_rows + self.num_candidates


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one batch. A job that exceeds them alone runs alone."""

    encode_rows: int
    num_rows: int


class Pace:
    """What event rows and candidates cost here, learned from the passes so far."""

    def __init__(self) -> None:
        self._event, self._candidate = _Rate(), _Rate()

    @property
    def candidate_s(self) -> float:
        return self._candidate.row_s

    def encoded(self, encode_rows: int, seconds: float) -> None:
        """`encode_rows` of the jobs that were encoded together, as `Work` counts them."""
        self._event.learn(encode_rows, seconds)

    def scored(self, num_candidates: int, seconds: float) -> None:
        self._candidate.learn(num_candidates, seconds)

    def seconds(self, work: Work) -> float:
        return work.encode_rows * self._event.row_s + work.num_candidates * self._candidate.row_s

    def num_events(self, seconds: float, num_candidates: int) -> int:
        """Event rows that a job can encode in this time and score candidates; may be negative."""
        left_s = seconds - num_candidates * self._candidate.row_s
        return int(left_s / self._event.row_s) - _JOB_ROWS


class _Rate:
    """Seconds per row: least squares through the origin, over passes that fade. A long pass tells
    the slope, which many short ones, mostly calls, would wash out of an average."""

    def __init__(self) -> None:
        self._square = float(_GUESS_ROWS**2)
        self._product = _GUESS_S * self._square

    @property
    def row_s(self) -> float:
        return self._product / self._square

    def learn(self, num_rows: int, seconds: float) -> None:
        self._product += num_rows * seconds - _SMOOTHING * self._product
        self._square += num_rows * num_rows - _SMOOTHING * self._square


class Batch:
    """What runs together, filled oldest first."""

    def __init__(self, bounds: Bounds, pace: Pace, now_s: float) -> None:
        self._bounds, self._pace, self._now_s = bounds, pace, now_s
        self._encode_rows = self._num_rows = 0
        self.seconds = 0.0
        """What it is expected to take."""
        self._deadlines_s: list[float] = []

    def admits(self, work: Work, deadline: Deadline | None) -> bool:
        """Take a job in if it fits, and if every deadline that holds without it holds with it."""
        encode_rows = self._encode_rows + work.encode_rows
        num_rows = self._num_rows + work.num_rows
        seconds = self.seconds + self._pace.seconds(work)
        if self._num_rows:
            if encode_rows > self._bounds.encode_rows or num_rows > self._bounds.num_rows:
                return False
            without, end = self._now_s + self.seconds, self._now_s + seconds
            if any(without <= deadline_s < end for deadline_s in self._deadlines_s):
                return False
        self._encode_rows, self._num_rows, self.seconds = encode_rows, num_rows, seconds
        if deadline is not None:
            self._deadlines_s.append(deadline.at_s)
        return True
