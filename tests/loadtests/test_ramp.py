import pytest

from loadtests.ramp import Step, ramp
from loadtests.record import Sample

pytestmark = pytest.mark.anyio
BUDGET_MS = 50.0


def sample(at_s: float, latency_ms: float, status: int = 200) -> Sample:
    return Sample(
        at_s=at_s,
        waited_ms=0.0,
        latency_ms=latency_ms,
        kind="recommend",
        user="returning",
        status=status,
        complete=status == 200,
    )


def test_a_step_counts_what_was_in_time_of_all_that_was_sent() -> None:
    samples = [sample(0.1 * n, 10.0 if n < 8 else 500.0) for n in range(10)]
    step = Step.of(10.0, 1.0, samples, BUDGET_MS)
    assert step.good_per_s == pytest.approx(8 / 1.4)  # the last answer came after 1.4 s
    assert (step.good_share, step.whole_share, step.p99_ms) == (0.8, 1.0, 500.0)
    assert step.is_saturated
    assert not step.keeps(BUDGET_MS)


def test_a_step_in_which_many_failed_has_no_p99() -> None:
    samples = [sample(0.1 * n, 10.0, 200 if n else 429) for n in range(10)]
    step = Step.of(10.0, 1.0, samples, BUDGET_MS)
    assert step.p99_ms is None
    assert not step.keeps(BUDGET_MS)
    assert not step.is_saturated


async def test_the_ramp_finds_saturation_and_the_best_rate() -> None:
    async def measure(rate: float) -> Step:
        """A service that answers 60 a second, in time up to 45."""
        answered = min(rate, 60.0)
        p99_ms = 20.0 if rate <= 45 else 80.0
        return Step(rate, answered, answered / rate, 1.0, p99_ms)

    found = await ramp(measure, first_rate=10.0, budget_ms=BUDGET_MS)
    assert found.saturation_per_s == 60.0
    assert found.best_rate is not None
    assert 42 <= found.best_rate <= 45
    assert len(found.steps) == len({step.rate for step in found.steps})


async def test_a_service_that_keeps_no_budget_has_no_best_rate() -> None:
    async def measure(rate: float) -> Step:
        return Step(rate, 0.0, 0.0, 1.0, None)

    found = await ramp(measure, first_rate=10.0, budget_ms=BUDGET_MS)
    assert (found.saturation_per_s, found.best_rate, len(found.steps)) == (0.0, None, 1)
