"""Owns how often users come, and which of their states a cache of some size holds.

Users come independently of each other, the n-th as often as n to some power tells. A cache that
drops what was used longest ago holds whoever came within its characteristic time (Che, Tung and
Wang 2002), which is found from its size. Ranks are summed in buckets: hundreds of millions of users
are as quick as a thousand.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_EXACT = 1000
"""Ranks before the buckets: they differ most."""

_GROWTH = 1.02
"""Of a bucket's width over that of the one before."""

_LONGEST_S = 1e12


@dataclass(frozen=True, slots=True)
class Held:
    """What a cache holds in the long run."""

    window_s: float  # whoever came within it is held
    num_states: float
    hit_ratio: float


class Popularity:
    def __init__(self, users: int, zipf: float, requests_per_s: float) -> None:
        starts, widths = _buckets(users)
        weights = _sum_of_powers(starts, widths, zipf)
        self._users = widths  # in each bucket
        self._per_s = requests_per_s * weights / weights.sum() / widths  # of each of its users
        self._share = weights / weights.sum()  # of the requests

    @property
    def num_users(self) -> float:
        return float(self._users.sum())

    def within(self, window_s: float, share_of_requests: float = 1.0) -> Held:
        """A cache that holds whoever came within so long; it sees that share of the requests."""
        present = -np.expm1(-self._per_s * share_of_requests * window_s)
        states, hits = float(self._users @ present), float(self._share @ present)
        return Held(window_s, states, hits)

    def held(self, num_states: float, ttl_s: float, share_of_requests: float = 1.0) -> Held:
        """A cache of so many states that drops the least recently used, and what is too old."""
        aged = self.within(ttl_s, share_of_requests)
        if aged.num_states <= num_states:
            return aged
        low, high = 0.0, min(ttl_s, _LONGEST_S)
        for _ in range(100):
            middle = (low + high) / 2
            if self.within(middle, share_of_requests).num_states < num_states:
                low = middle
            else:
                high = middle
        return self.within(low, share_of_requests)


def _buckets(users: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """First ranks, from 1, and how many there are."""
    edges = [float(rank) for rank in range(1, min(users, _EXACT) + 1)]
    while edges[-1] * _GROWTH < users:
        edges.append(float(round(edges[-1] * _GROWTH)))
    ends = np.array([*edges[1:], users + 1.0])
    starts = np.array(edges)
    return starts, ends - starts


def _sum_of_powers(
    starts: npt.NDArray[np.float64], widths: npt.NDArray[np.float64], zipf: float
) -> npt.NDArray[np.float64]:
    """Of rank ** -zipf over each bucket: by the integral around the ranks, which is exact enough
    where many of them are nearly alike; single ranks as they are."""
    low, high = starts - 0.5, starts + widths - 0.5
    if zipf == 1:
        integral = np.log(high / low)
    else:
        integral = (high ** (1 - zipf) - low ** (1 - zipf)) / (1 - zipf)
    return np.where(widths == 1, starts**-zipf, integral)
