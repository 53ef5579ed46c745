"""A simulated replica against what queueing theory says, and against the service's own rules."""

import statistics
from dataclasses import replace
from random import Random

import pytest

from service.batch import Work
from service.planning.costs import Costs
from service.planning.simulation import Asked, Outcome, saturate, simulate
from tests.service.planning.made_up import COSTS, alone

WORK = Work(2, 500)


def poisson(rate: float, count: int, work: Work = WORK, seed: int = 5) -> list[Asked]:
    rng, now_s, asked = Random(seed), 0.0, []
    for _ in range(count):
        now_s += rng.expovariate(rate)
        asked.append(Asked(now_s, work))
    return asked


def run(costs: Costs, rate: float, count: int = 20_000, budget_ms: float = 1e9) -> Outcome:
    return simulate(costs, poisson(rate, count), budget_ms)


def per_s(costs: Costs, clients: int, work: Work = WORK) -> float:
    return saturate(costs, work, clients, 2000).whole_per_s


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_waiting_is_that_of_a_queue_of_equal_jobs(busy: float) -> None:
    """M/D/1: a wait of busy / (2 (1 - busy)) jobs on average."""
    found = run(alone(10.0), rate=busy * 100, count=60_000)
    waited = statistics.mean(found.latencies_ms) - 10
    assert waited == pytest.approx(10 * busy / (2 * (1 - busy)), rel=0.08)
    assert found.engine_busy == pytest.approx(busy, rel=0.03)
    assert found.mean_batch == 1


def test_the_event_loop_is_a_server_of_its_own() -> None:
    """It halves its work before and after an engine that takes next to nothing."""
    costs = replace(alone(1e-6), loop_ms=10.0)
    found = run(costs, rate=60, count=40_000)
    assert found.loop_busy == pytest.approx(0.6, rel=0.03)
    assert min(found.latencies_ms) == pytest.approx(10, rel=1e-3)
    assert statistics.mean(found.latencies_ms) > 12


def test_a_request_alone_takes_the_sum_of_its_parts() -> None:
    found = simulate(COSTS, [Asked(0.0, WORK)], budget_ms=1000)
    engine_ms = 0.2 + 0.3 + 2 * 0.01 + 0.5 + 500 * 0.008
    assert found.latencies_ms == [pytest.approx(engine_ms + 1.0 + 0.5)]
    fetched = simulate(COSTS, [Asked(0.0, WORK, is_fetched=True)], budget_ms=1000)
    assert fetched.latencies_ms == [pytest.approx(engine_ms + 1.0 + 0.5 + 1.0)]
    stale = simulate(COSTS, [Asked(0.0, WORK, is_stale=True)], budget_ms=1000)
    assert stale.latencies_ms == [pytest.approx(2 * engine_ms + 1.0 + 0.5 + 1.0)]


def test_many_candidates_take_several_passes() -> None:
    found = simulate(COSTS, [Asked(0.0, Work(2, 1200))], budget_ms=1000)
    engine_ms = 0.2 + 0.3 + 2 * 0.01 + 3 * 0.5 + 1200 * 0.008
    assert found.latencies_ms == [pytest.approx(engine_ms + 1.0 + 0.5)]


def test_requests_that_come_together_are_encoded_together() -> None:
    found = simulate(COSTS, [Asked(0.0, Work(2, 50)) for _ in range(9)], budget_ms=1000)
    assert found.mean_batch == 9 / 4  # half a millisecond of event loop each: they join as read
    assert per_s(COSTS, 16, Work(2, 50)) > 1.2 * per_s(COSTS, 1, Work(2, 50))


def test_every_request_is_accounted_for() -> None:
    found = run(COSTS, rate=400, count=5000, budget_ms=50)
    assert found.num_asked == 5000
    assert found.num_refused > 1000
    assert found.in_time(50) < 0.8
    assert max(found.latencies_ms) < 80  # refusing keeps the queue short
    quiet = run(COSTS, rate=20, count=2000, budget_ms=50)
    assert quiet.in_time(50) > 0.999
    assert quiet.num_refused == 0


def test_what_is_done_aside_is_waited_for_by_others_alone() -> None:
    aside = replace(COSTS, aside_ms=0.4)
    (one,) = simulate(aside, [Asked(0.0, WORK)], budget_ms=1000).latencies_ms
    (all_in_the_way,) = simulate(COSTS, [Asked(0.0, WORK)], budget_ms=1000).latencies_ms
    assert one == pytest.approx(all_in_the_way - 0.4)
    assert run(aside, 50).loop_busy == pytest.approx(run(COSTS, 50).loop_busy, rel=0.01)


def test_the_machine_is_slow_for_as_long_as_it_was() -> None:
    noisy = replace(
        COSTS, noise=[(0.0, 1.0, 0.0), (2.0, 2.0, 0.0), (4.0, 1.0, 4.0), (6.0, 1.0, 0.0)]
    )
    asked = [Asked(at_s, WORK) for at_s in (0.0, 1.3, 1.7, 2.3, 4.2, 6.1)]
    plain, same, slow, slower, late, again = simulate(noisy, asked, budget_ms=1000).latencies_ms
    engine_ms = plain - 1.5
    assert [same, again] == pytest.approx([plain, plain])
    assert [slow, slower] == pytest.approx([plain + engine_ms] * 2)
    assert late == pytest.approx(plain + 4)
    (later,) = simulate(noisy, asked[:1], budget_ms=1000, noise_from_s=2.2).latencies_ms
    assert later == pytest.approx(slow)


def test_a_moment_that_one_request_met_is_one_requests_however_many_come() -> None:
    """Ten a second were measured, one of them in a bad moment; a hundred a second come."""
    tenths = [(number / 10, 1.0, 0.0) for number in range(100)]
    tenths[50] = (5.0, 10.0, 0.0)
    asked = [Asked(number / 100, Work(2, 1)) for number in range(980)]
    found = simulate(replace(COSTS, noise=tenths), asked, budget_ms=1000).latencies_ms
    slow = [ms for ms in found if ms > 2 * min(found)]
    assert 2 <= len(slow) <= 20
