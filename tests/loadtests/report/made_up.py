"""A made-up run: a ramp of three rates, a paused store, refusals, and a process that grows."""

from pathlib import Path
from random import Random

from loadtests.record import Mark, Reading, Recorder, Run, Sample

PHASES = ((0.0, 20.0, 40.0), (20.0, 40.0, 80.0), (40.0, 60.0, 160.0))
"""From, until, and requests a second."""

FAULT = Mark(at_s=25, until_s=31, name="redis paused", is_fault=True)
BUDGET_MS = 50.0


def make_run(folder: Path, title: str = "a ramp <with> a fault") -> None:
    """All that a driver writes."""
    rng = Random(7)
    run = Run(
        title=title,
        command="python -m loadtests open --rates 40,80,160",
        began=1_700_000_000.0,
        budget_ms=BUDGET_MS,
        machine="a machine",
        commit="abc1234",
    )
    recorder = Recorder.begin(folder, run)
    for start_s, end_s, rate in PHASES:
        mark = Mark(at_s=start_s, until_s=end_s, name=f"{rate:g}/s")
        recorder.mark(mark)
        at_s = start_s
        while (at_s := at_s + rng.expovariate(rate)) < end_s:
            recorder.sample(_sample(rng, at_s, rate))
    recorder.mark(FAULT)
    for second in range(61):
        for process, mib in (("service", 400), ("redis", 60)):
            recorder.reading(
                Reading(
                    at_s=float(second),
                    process=process,
                    resident_bytes=int((mib + min(second, 20)) * 2**20),
                    num_files=30,
                    num_threads=8,
                    cpu_s=0.5 * second,
                )
            )
    recorder.close()


def _sample(rng: Random, at_s: float, rate: float) -> Sample:
    is_paused = FAULT.at_s <= at_s < FAULT.until_s
    if rate > 100 and rng.random() < 0.1:
        return _made(at_s, rng.uniform(0, 2), rng.uniform(1, 3), status=429, code="overloaded")
    is_hit = rng.random() < 0.9 and not is_paused
    parts = {
        "queue": rng.expovariate(1) * rate / 40,
        "cache": rng.uniform(0.3, 1),
        "encode": rng.uniform(1, 2) + (0 if is_hit else 5),
        "score": rng.uniform(4, 6) + (rng.expovariate(0.05) if rng.random() < 0.01 else 0),
    }
    timing_ms = parts | {"total": sum(parts.values()) + 1.2}
    waited_ms = rng.expovariate(1) * rate / 80
    return _made(
        at_s,
        waited_ms,
        waited_ms + timing_ms["total"] + 1.5,
        status=200,
        complete=not is_paused,
        degraded=["store_unavailable"] if is_paused else [],
        cache_status="hit" if is_hit else "error" if is_paused else "miss",
        tier=rng.choice(["device", "device", "redis"]) if is_hit else None,
        reused_events=150 if is_hit else 0,
        encoded_events=1 if is_hit else 60,
        timing_ms=timing_ms,
    )


def _made(at_s: float, waited_ms: float, latency_ms: float, **fields: object) -> Sample:
    return Sample(
        at_s=at_s,
        waited_ms=waited_ms,
        latency_ms=latency_ms,
        kind="recommend",
        user="returning",
        **fields,  # type: ignore[arg-type]
    )
