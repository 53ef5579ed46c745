"""Hit ratios by buckets and Che's approximation, against sums over every user and a real LRU."""

import math
from collections import OrderedDict
from itertools import accumulate
from random import Random

import numpy as np
import pytest

from service.planning.popularity import Popularity


@pytest.mark.parametrize("users", [1, 7, 1000, 1001, 50_000])
@pytest.mark.parametrize("zipf", [0.0, 0.7, 1.0, 1.3])
def test_buckets_sum_to_what_all_users_do(users: int, zipf: float) -> None:
    rates = np.arange(1, users + 1) ** -zipf
    rates = 100 * rates / rates.sum()
    found = Popularity(users, zipf, requests_per_s=100)
    assert found.num_users == users
    for window_s in (0.1, 10.0, 1000.0):
        present = -np.expm1(-rates * window_s)
        held = found.within(window_s)
        assert held.num_states == pytest.approx(present.sum(), rel=0.01)
        assert held.hit_ratio == pytest.approx((rates * present).sum() / 100, abs=0.003)


@pytest.mark.parametrize("num_states", [10, 100, 400])
def test_a_cache_hits_as_often_as_a_real_one(num_states: int) -> None:
    users, rng = 1000, Random(3)
    weights = list(accumulate((rank + 1) ** -0.9 for rank in range(users)))
    cache: OrderedDict[int, None] = OrderedDict()
    hits, num_asked = 0, 60_000
    for number, user in enumerate(rng.choices(range(users), cum_weights=weights, k=num_asked)):
        if number >= num_asked // 3 and user in cache:
            hits += 1
        cache[user] = None
        cache.move_to_end(user)
        if len(cache) > num_states:
            cache.popitem(last=False)
    expected = Popularity(users, 0.9, 50).held(num_states, ttl_s=math.inf).hit_ratio
    assert hits / (num_asked * 2 / 3) == pytest.approx(expected, abs=0.01)


def test_what_is_too_old_is_not_held() -> None:
    found = Popularity(100_000, 1.0, 10)
    aged = found.held(1e9, ttl_s=3600)
    assert aged == found.within(3600)
    assert found.held(500, ttl_s=3600).num_states == pytest.approx(500, rel=1e-3)
    assert found.held(1e9, ttl_s=math.inf).hit_ratio == pytest.approx(1)


def test_a_share_of_the_requests_is_slower_to_fill() -> None:
    found = Popularity(10_000, 1.0, 10)
    assert found.within(100, 0.5) == found.within(50) or (
        found.within(100, 0.5).hit_ratio == pytest.approx(found.within(50).hit_ratio)
    )


def test_hundreds_of_millions_are_few_buckets() -> None:
    found = Popularity(500_000_000, 1.1, 1_000_000)
    assert found.num_users == 500_000_000
    ratios = [found.held(size, math.inf).hit_ratio for size in (1e3, 1e5, 1e7, 4.9e8)]
    assert ratios == sorted(ratios)
    assert 0 < ratios[0] < ratios[-1] <= 1
