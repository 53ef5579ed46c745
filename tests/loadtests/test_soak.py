"""Real servers, for seconds; what grows is not judged here."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from loadtests import soak
from loadtests.ramp import Ramp, Step
from loadtests.record import Record, Recorder, Run
from tests.redis_server import NO_SERVER, own_server

Measure = Callable[[float], Awaitable[Step]]


async def two_rates(measure: Measure, *, first_rate: float, budget_ms: float) -> Ramp:
    return Ramp([await measure(4 * first_rate), await measure(first_rate)], budget_ms)


@pytest.mark.anyio
async def test_a_share_of_the_saturation_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own_server() is None:
        pytest.skip(NO_SERVER)
    monkeypatch.setattr(soak, "STEP_S", 0.5)
    monkeypatch.setattr(soak, "PHASE_S", 0.5)
    monkeypatch.setattr(soak, "ramp", two_rates)
    plan = soak.Plan(seconds=1.0, share=0.25, budget_ms=500, population=40, seed=1)
    recorder = Recorder.begin(tmp_path / "run", Run(title="t", command="c", began=time.time()))
    steps: list[Step] = []
    await soak.soak(plan, tmp_path, recorder, steps.append)
    recorder.close()
    *found, first, last = steps
    assert first.rate == last.rate == 0.25 * max(step.good_per_s for step in found)
    record = Record.load(tmp_path / "run")
    assert len(record.marks) == len(steps)
    assert {reading.process for reading in record.readings} == {"service", "redis"}
    assert max(sample.reused_events + sample.encoded_events for sample in record.samples) > 150
