"""Costs of a machine that does not exist."""

from dataclasses import replace
from typing import Any

from service.planning.costs import Costs, Engine, Factors, Redis

COSTS = Costs(
    checkpoint="made up",
    num_events=200,
    window_capacity=256,
    window_keep=160,
    num_candidates=500,
    threads=1,
    microbatch=512,
    batch_rows=4096,
    engine=Engine(
        encode_pass_ms=0.2,
        encode_job_ms=0.3,
        encode_row_ms=0.01,
        score_pass_ms=0.5,
        score_candidate_ms=0.008,
    ),
    loop_ms=1.0,
    aside_ms=0.0,
    beyond_ms=0.5,
    device_bytes=400_000,
    redis=Redis(
        state_bytes=400_000,
        memory_over_bytes=1.5,
        fetch_ms=1.0,
        sent_bytes=2_500.0,
        received_bytes=20.0,
    ),
    noise=[(0.0, 1.0, 0.0)],
    peak_per_s=180.0,
    factors=[Factors(per_s=0.0, cost=1.0, noise=1.0)],
    waited_for_cores=0.0,
    machine={"machine": "none"},
)


def alone(score_ms: float, **changed: Any) -> Costs:
    """An engine that takes so long for each request, whatever it asks, and runs them one by one."""
    engine = Engine(
        encode_pass_ms=0.0,
        encode_job_ms=0.0,
        encode_row_ms=0.0,
        score_pass_ms=score_ms,
        score_candidate_ms=0.0,
    )
    bare = replace(COSTS, engine=engine, loop_ms=1e-6, beyond_ms=0.0, batch_rows=1)
    return replace(bare, **changed)
