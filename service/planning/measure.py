"""Owns the costs of a replica here, from what was seen of the service under load.

A light load tells what a request takes, by those that found the engine free, and how evenly, by
all; what busier ones make of it is fitted to it (`fit.py`). What the engine's calls cost by their
sizes is known by then (`engine_costs.py`).
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cache import RedisStore
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.history import Event, History
from service.benchmark.load.traffic import Plan, visitors
from service.codec import StateCodec
from service.planning.costs import Costs, Factors, Redis
from service.planning.costs import Engine as EngineCosts
from service.planning.observe import Observations, Observed, waited_for_cores
from service.planning.rig import Rig
from service.settings import Settings

_WAKING = 2
"""Times the usual wait for the engine's thread; who waits longer waits for others."""

_LEAST_AT_ONCE = 20


def costs_of(
    rig: Rig,
    observations: Observations,
    passes: EngineCosts,
    *,
    threads: int,
    machine: dict[str, Any],
) -> Costs:
    """From what was seen of the service, and from the engine's calls by themselves.

    Raises:
        RuntimeError: a process ended, or too few requests found the engine free.
    """
    settings, window = Settings.model_construct(), rig.checkpoint.config.window
    engine = Engine(rig.checkpoint.network)
    codec = StateCodec(rig.checkpoint.config, rig.checkpoint.digests().fingerprint, engine.pool)
    both = (observations.full, observations.light)
    loop_ms = 1000 * statistics.mean(map(_loop_s, both))
    answered = served([each.load for each in observations.light])
    at_once = [each for each in answered if each.is_at_once]
    usual_ms = statistics.median(each.engine_ms for each in at_once)
    usual_rest_ms = statistics.median(each.rest_ms for each in at_once)
    num_light = sum(each.num_answers for each in observations.light)
    return Costs(
        checkpoint=rig.checkpoint.name,
        num_events=rig.plan.num_events,
        window_capacity=window.capacity,
        window_keep=window.keep,
        num_candidates=rig.plan.num_candidates,
        threads=threads,
        microbatch=settings.microbatch,
        batch_rows=settings.batch_rows,
        engine=_as_in_service(passes, rig.plan, settings.microbatch, at_once),
        loop_ms=loop_ms,
        aside_ms=max(loop_ms - usual_rest_ms, 0.0),
        beyond_ms=max(usual_rest_ms - loop_ms, 0.0),
        device_bytes=_state_bytes(engine, rig.plan),
        redis=Redis(
            state_bytes=codec.cost(rig.plan.num_events)[1],
            memory_over_bytes=rig.memory_over_bytes(codec),
            fetch_ms=asyncio.run(_fetch_ms(rig, codec)),
            sent_bytes=sum(each.redis_received for each in observations.light) / num_light,
            received_bytes=sum(each.redis_sent for each in observations.light) / num_light,
        ),
        noise=[
            (each.at_s, each.engine_ms / usual_ms, each.rest_ms - usual_rest_ms)
            for each in answered
        ],
        peak_per_s=statistics.median(each.per_s for each in observations.full),
        factors=[Factors(per_s=0.0, cost=1.0, noise=1.0)],
        waited_for_cores=max(map(waited_for_cores, both)),
        machine=machine,
    )


@dataclass(frozen=True, slots=True)
class Served:
    """A request, and when it was due; `rest_ms` is beside the engine and the wait for it."""

    at_s: float
    encode_ms: float
    score_ms: float
    rest_ms: float
    is_at_once: bool  # it found the engine free

    @property
    def engine_ms(self) -> float:
        return self.encode_ms + self.score_ms


def served(loads: Sequence[dict[str, Any]]) -> list[Served]:
    """In order of time, the loads one after another.

    Raises:
        RuntimeError: too few found the engine free.
    """
    found, began_s = [], 0.0
    for load in loads:
        found += _served(load, began_s)
        began_s += load["elapsed_s"]
    if sum(each.is_at_once for each in found) < _LEAST_AT_ONCE:
        raise RuntimeError("too few requests found the engine free; raise --seconds")
    return found


def _served(load: dict[str, Any], began_s: float) -> list[Served]:
    """Who waits about as usual for the engine waits for its thread to wake up: that is part of
    what a request takes. The rest of a longer wait is for others."""
    stages = load["stages_ms"]
    usual_ms = statistics.median(stages["queue"])
    columns = (load["due_s"], load["latencies_ms"], stages["queue"], stages["encode"])
    return [
        Served(
            at_s=began_s + due_s,
            encode_ms=encode_ms,
            score_ms=score_ms,
            rest_ms=whole_ms - encode_ms - score_ms - max(queue_ms - usual_ms, 0.0),
            is_at_once=queue_ms <= _WAKING * usual_ms,
        )
        for due_s, whole_ms, queue_ms, encode_ms, score_ms in sorted(
            zip(*columns, stages["score"], strict=True)
        )
    ]


def _loop_s(loads: Sequence[Observed]) -> float:
    """Seconds of the event loop for an answer."""
    return sum(each.loop_s for each in loads) / sum(each.num_answers for each in loads)


def _as_in_service(
    passes: EngineCosts, plan: Plan, microbatch: int, at_once: Sequence[Served]
) -> EngineCosts:
    """With all that the service's batches do beside the engine's calls, as single requests tell."""
    encode_ms = statistics.median(each.encode_ms for each in at_once)
    score_ms = statistics.median(each.score_ms for each in at_once)
    by_encode = encode_ms / passes.encode_ms(1, 2)
    by_score = score_ms / passes.whole_score_ms(plan.num_candidates, microbatch)
    return EngineCosts(
        encode_pass_ms=by_encode * passes.encode_pass_ms,
        encode_job_ms=by_encode * passes.encode_job_ms,
        encode_row_ms=passes.encode_row_ms,
        score_pass_ms=by_score * passes.score_pass_ms,
        score_candidate_ms=by_score * passes.score_candidate_ms,
    )


def _state_bytes(engine: Engine, plan: Plan) -> int:
    """Of a user's state as tensors."""
    history = History.of(Event(*event) for event in visitors(plan)[0].history)
    (encoded,) = engine.encode([EncodeJob(engine.empty_state(), history)])
    return encoded.state.num_bytes


async def _fetch_ms(rig: Rig, codec: StateCodec) -> float:
    """Median, from the question to tensors."""
    store = RedisStore.from_url(rig.redis_url, ttl_s=3600, timeout_s=1.0)
    times_ms = []
    try:
        for place in range(rig.plan.num_users):
            began_s = time.perf_counter()
            found = await store.load(codec.key(f"user-{place}"))
            if found.entry is None or codec.decode(found.entry) is None:
                raise RuntimeError("the service stored no state")
            times_ms.append(1000 * (time.perf_counter() - began_s))
    finally:
        await store.close()
    return statistics.median(times_ms)
