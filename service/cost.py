"""Owns what fetching and encoding cost here, learned from those that happen. Never does either.

The choice is between two ways to the same scores: rows of the store, or rows run anew.
"""

from typing import Final

_WEIGHT: Final = 0.1
"""Of the newest sample; older ones fade. A store that got slow is known after some ten requests."""

_FETCH_EVERY: Final = 50
"""Of the times that encoding is expected to win, one is fetched: else a store that has become
faster would never be found out."""


class Line:
    """Seconds as a fixed part and a part per unit of size, both exponentially weighted."""

    def __init__(self) -> None:
        self._fixed_s: float | None = None
        self._product = self._square = 0.0

    def learn(self, size: float, seconds: float) -> None:
        """What has no size shows the fixed part; what has, the rest, and the more the larger."""
        if not size:
            before = seconds if self._fixed_s is None else self._fixed_s
            self._fixed_s = before + _WEIGHT * (seconds - before)
        elif self._fixed_s is not None:
            self._product += size * (seconds - self._fixed_s) - _WEIGHT * self._product
            self._square += size * size - _WEIGHT * self._square

    @property
    def fixed_s(self) -> float | None:
        """None while unknown."""
        return self._fixed_s

    @property
    def per_unit_s(self) -> float | None:
        """Least squares over the samples; None while unknown."""
        return max(self._product / self._square, 0.0) if self._square else None


class CostModel:
    """Time to fetch a state and time to encode its rows, for one service and its store."""

    def __init__(self) -> None:
        self.fetch, self.encode = Line(), Line()
        self._num_encoded = 0

    def fetched(self, num_bytes: int, seconds: float) -> None:
        """From the question to tensors; 0 bytes for a miss or a header."""
        self.fetch.learn(num_bytes, seconds)

    def encoded(self, num_rows: float, seconds: float) -> None:
        """`num_rows` beside the pending row, which is run in any case. Of several users encoded
        together: what is each one's on average."""
        self.encode.learn(num_rows, seconds)

    def favours_encoding(self, num_rows: int, num_bytes: int) -> bool:
        """Whether to run rows rather than fetch them. Not while either cost is unknown."""
        round_trip_s, byte_s, row_s = (
            self.fetch.fixed_s,
            self.fetch.per_unit_s,
            self.encode.per_unit_s,
        )
        if round_trip_s is None or byte_s is None or row_s is None:
            return False
        if num_rows * row_s >= round_trip_s + num_bytes * byte_s:
            return False
        self._num_encoded += 1
        return self._num_encoded % _FETCH_EVERY != 0
