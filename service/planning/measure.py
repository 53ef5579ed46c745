"""Owns the costs of a replica here, from what was seen of the service under two loads.

A light load, of which the requests that found the engine free count, tells what one takes and how
evenly; clients that ask again at once tell how much is answered at most, and so what engine and
event loop cost each other.
What the engine's calls cost by their sizes is known by then (`engine_costs.py`).
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cache import RedisStore
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.history import Event, History
from service.batch import Work
from service.benchmark.load.traffic import Plan, visitors
from service.codec import StateCodec
from service.planning.costs import Costs, Redis
from service.planning.costs import Engine as EngineCosts
from service.planning.observe import CLIENTS, Observations, Observed, waited_for_cores
from service.planning.rig import Rig
from service.planning.simulation import Outcome, saturate
from service.settings import Settings

_ANSWERS = 1500
"""Of a simulated load."""

_WAKING = 2
"""Times the usual wait for the engine's thread; who waits longer waits for others."""

_LEAST_AT_ONCE = 20
_CONTENTION = (-0.5, 4.0)


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
    at_once = served_at_once([each.load for each in observations.light])
    engine_ms = [each.encode_ms + each.score_ms for each in at_once]
    usual_ms = statistics.median(engine_ms)
    usual_rest_ms = statistics.median(each.rest_ms for each in at_once)
    num_light = sum(each.num_answers for each in observations.light)
    costs = Costs(
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
        encode_contention=0.0,
        score_contention=0.0,
        device_bytes=_state_bytes(engine, rig.plan),
        redis=Redis(
            state_bytes=codec.cost(rig.plan.num_events)[1],
            memory_over_bytes=rig.memory_over_bytes(codec),
            fetch_ms=asyncio.run(_fetch_ms(rig, codec)),
            sent_bytes=sum(each.redis_received for each in observations.light) / num_light,
            received_bytes=sum(each.redis_sent for each in observations.light) / num_light,
        ),
        noise=[
            (each.at_s, ms / usual_ms, each.rest_ms - usual_rest_ms)
            for ms, each in zip(engine_ms, at_once, strict=True)
        ],
        peak_per_s=statistics.median(each.per_s for each in observations.full),
        waited_for_cores=max(map(waited_for_cores, both)),
        machine=machine,
    )
    encodes_ms = [ms for each in observations.full for ms in each.load["stages_ms"]["encode"]]
    return with_contention(costs, statistics.mean(encodes_ms))


@dataclass(frozen=True, slots=True)
class AtOnce:
    """A request that found the engine free, and when it was due; `rest_ms` is beside the engine."""

    at_s: float
    encode_ms: float
    score_ms: float
    rest_ms: float


def served_at_once(loads: Sequence[dict[str, Any]]) -> list[AtOnce]:
    """In order of time, the loads one after another.

    Raises:
        RuntimeError: too few.
    """
    found, began_s = [], 0.0
    for load in loads:
        found += [_at_once(load, place, began_s) for place in places_at_once(load)]
        began_s += load["elapsed_s"]
    if len(found) < _LEAST_AT_ONCE:
        raise RuntimeError("too few requests found the engine free; raise --seconds")
    return found


def places_at_once(load: dict[str, Any]) -> list[int]:
    """Of the answers that found the engine free, in order of time: the wait for its thread to wake
    up is about the same for all of them. To leave out all that met another anywhere would leave
    out the slow ones first, since they meet the most."""
    queue_ms = load["stages_ms"]["queue"]
    most_ms = _WAKING * statistics.median(queue_ms)
    places = [place for place, ms in enumerate(queue_ms) if ms <= most_ms]
    return sorted(places, key=lambda place: load["due_s"][place])


def _at_once(load: dict[str, Any], place: int, began_s: float) -> AtOnce:
    stages = load["stages_ms"]
    encode_ms, score_ms = stages["encode"][place], stages["score"][place]
    rest_ms = load["latencies_ms"][place] - encode_ms - score_ms
    return AtOnce(began_s + load["due_s"][place], encode_ms, score_ms, rest_ms)


def with_contention(costs: Costs, encode_ms: float) -> Costs:
    """With that of encoding with which it takes waiting clients as long as was measured, and that
    of scoring with which as much is answered."""
    work = Work(2, costs.num_candidates)

    def full(encode: float, score: float) -> Outcome:
        changed = replace(costs, encode_contention=encode, score_contention=score)
        return saturate(changed, work, CLIENTS, _ANSWERS)

    encode = _least(lambda it: full(it, it).mean_encode_ms >= encode_ms)
    score = _least(lambda it: full(encode, it).whole_per_s <= costs.peak_per_s)
    return replace(costs, encode_contention=encode, score_contention=score)


def _least(is_enough: Callable[[float], bool]) -> float:
    """The least contention with which something that grows with it is enough."""
    low, high = _CONTENTION
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return (low + high) / 2


def _loop_s(loads: Sequence[Observed]) -> float:
    """Seconds of the event loop for an answer."""
    return sum(each.loop_s for each in loads) / sum(each.num_answers for each in loads)


def _as_in_service(
    passes: EngineCosts, plan: Plan, microbatch: int, at_once: Sequence[AtOnce]
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
