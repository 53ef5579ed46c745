"""Owns what records are made of in tests."""

from collections.abc import Sequence
from typing import Any

from loadtests.record import Mark, Reading, Record, Run, Sample

MIB = 1 << 20


def make_sample(at_s: float = 0.0, **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "at_s": at_s,
        "waited_ms": 0,
        "latency_ms": 5.0,
        "kind": "recommend",
        "user": "returning",
        "status": 200,
        "complete": True,
        "cache_status": "hit",
        "reused_events": 90,
        "encoded_events": 10,
    }
    return Sample(**fields | changes)


def make_reading(at_s: float, **changes: Any) -> Reading:
    fields: dict[str, Any] = {
        "at_s": at_s,
        "process": "service",
        "resident_bytes": 100 * MIB,
        "num_files": 20,
        "num_threads": 5,
        "cpu_s": at_s,
    }
    return Reading(**fields | changes)


def make_record(
    samples: Sequence[Sample] = (),
    marks: Sequence[Mark] = (),
    readings: Sequence[Reading] = (),
    budget_ms: float | None = None,
) -> Record:
    run = Run(title="a run", command="make load", began=0, budget_ms=budget_ms)
    return Record(run=run, samples=list(samples), marks=list(marks), readings=list(readings))


def fault(at_s: float, until_s: float) -> Mark:
    return Mark(at_s=at_s, until_s=until_s, name="redis killed", is_fault=True)
