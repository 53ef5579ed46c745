"""Plans follow the traffic: more of it needs more, and what can not be had is said."""

from dataclasses import replace
from typing import Any

import pytest

from service.planning.plan import make_plan
from service.planning.traffic import Traffic
from tests.service.planning.made_up import COSTS


@pytest.fixture(autouse=True)
def few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.planning.plan._REQUESTS", 1500)


def traffic(**changed: Any) -> Traffic:
    return Traffic(**{"requests_per_s": 500, "users": 100_000, "sticky": True} | changed)


def test_more_requests_need_more_replicas() -> None:
    few, many = (make_plan(COSTS, traffic(requests_per_s=rate)) for rate in (100, 2000))
    assert few.replicas is not None
    assert many.replicas is not None
    assert 1 <= few.replicas < many.replicas
    assert many.cores == 2 * many.replicas
    for plan in (few, many):
        assert plan.expected.in_time >= plan.traffic.in_time
        assert plan.expected.p50_ms <= plan.expected.p99_ms <= plan.traffic.budget_ms
        assert plan.expected.engine_busy < 1


def test_one_replica_fewer_is_too_few() -> None:
    plan = make_plan(COSTS, traffic())
    assert plan.replicas is not None
    one_fewer = traffic(requests_per_s=500 * plan.replicas / (plan.replicas - 1))
    again = make_plan(COSTS, one_fewer)
    assert again.replicas is not None
    assert again.replicas >= plan.replicas


def test_a_budget_below_one_request_is_said() -> None:
    plan = make_plan(COSTS, traffic(budget_ms=3))
    assert plan.replicas is None
    assert "no number of replicas" in plan.notes[0]


def test_less_memory_hits_less_and_costs_replicas() -> None:
    whole = make_plan(COSTS, traffic())
    small = make_plan(COSTS, traffic(redis_bytes=100 * 600_000))
    assert whole.sources.nowhere < 0.01 < small.sources.nowhere
    assert whole.redis.num_states == pytest.approx(100_000, rel=0.01)
    assert whole.redis.memory_bytes == pytest.approx(whole.redis.num_states * 600_000)
    assert small.redis.num_states == pytest.approx(100)
    assert small.redis.received_bytes_per_s > whole.redis.received_bytes_per_s
    assert whole.replicas is not None
    assert small.replicas is not None
    assert small.replicas >= whole.replicas
    hits = [point.hit_ratio for point in whole.memory_curve]
    assert hits == sorted(hits)


def test_a_user_who_changes_replicas_is_ranked_twice() -> None:
    sticky, any_replica = (make_plan(COSTS, traffic(sticky=each)) for each in (True, False))
    assert sticky.sources.stale == 0
    assert any_replica.sources.stale > 0.05
    assert any_replica.sources.here < sticky.sources.here
    assert any("--sticky" in note for note in any_replica.notes)
    for plan in (sticky, any_replica):
        shares = plan.sources
        assert shares.here + shares.store + shares.nowhere == pytest.approx(1)


def test_full_windows_are_rebuilt_now_and_then() -> None:
    assert make_plan(COSTS, traffic()).sources.rebuilt == 0
    full = make_plan(replace(COSTS, num_events=208), traffic(history_events=1000))
    assert full.sources.rebuilt == pytest.approx(1 / 97, rel=0.02)
    assert not full.notes


def test_costs_of_another_history_are_pointed_out() -> None:
    assert any(
        "measure again" in each for each in make_plan(COSTS, traffic(history_events=50)).notes
    )
    busy = replace(COSTS, waited_for_cores=1.0)
    assert any("quiet machine" in each for each in make_plan(busy, traffic()).notes)


def test_internet_scale_is_planned() -> None:
    plan = make_plan(COSTS, traffic(users=300_000_000, requests_per_s=200_000))
    assert plan.replicas is not None
    assert plan.replicas > 1000
    assert plan.redis.num_states == pytest.approx(300_000_000, rel=0.2)
