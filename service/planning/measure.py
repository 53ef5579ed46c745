"""Owns measuring the costs of a replica here: the engine's calls, then the service under two loads.

A light load, whose requests are mostly alone, tells what one takes and how evenly; clients that ask
again at once tell how much is answered at most, and so what engine and event loop cost each other.
"""

import asyncio
import statistics
import time
from dataclasses import replace
from typing import Any

from cache import RedisStore
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.history import Event, History
from service.batch import Work
from service.benchmark.load.traffic import Plan, visitors
from service.benchmark.timing import OnTurn
from service.codec import StateCodec
from service.planning.costs import Costs, Redis
from service.planning.costs import Engine as EngineCosts
from service.planning.engine_costs import measure_engine
from service.planning.rig import Rig
from service.planning.simulation import saturate
from service.settings import Settings

CLIENTS = 8
"""Who ask again at once: enough to keep the engine busy, too few to fill a queue."""

LIGHT = 0.25
"""Of the most that is answered; requests are mostly alone."""

_ANSWERS = 1500
"""Of a simulated load."""

_LEAST_ALONE = 20
_CONTENTION = (-0.5, 4.0)


def measure_costs(
    rig: Rig, *, threads: int, seconds: float, rounds: int, on_turn: OnTurn, machine: dict[str, Any]
) -> Costs:
    """`seconds` of each load; the light one lasts three times as long.

    Raises:
        RuntimeError: a process ended, or nothing was answered.
    """
    settings = Settings.model_construct()
    engine = Engine(rig.checkpoint.network)
    passes = measure_engine(
        engine, rig.plan, microbatch=settings.microbatch, rounds=rounds, on_turn=on_turn
    )
    codec = StateCodec(rig.checkpoint.config, rig.checkpoint.digests().fingerprint, engine.pool)
    for turn, name in enumerate(("warming up", "clients that wait", "a light load")):
        on_turn(name, turn, 3)
        if name == "warming up":
            rig.closed_load(1, seconds / 2)
        elif name == "clients that wait":
            full, full_loop_s, _ = _loaded(rig, "closed", CLIENTS, seconds)
            peak_per_s = len(full["latencies_ms"]) / full["elapsed_s"]
        else:
            traffic = rig.redis_bytes()
            light, loop_s, waited = _loaded(rig, "open", LIGHT * peak_per_s, 3 * seconds)
            sent, received = (
                (after - before) / len(light["latencies_ms"])
                for before, after in zip(traffic, rig.redis_bytes(), strict=True)
            )
    alone, window = alone_of(light), rig.checkpoint.config.window
    stages = light["stages_ms"]
    encode_ms, score_ms = (
        statistics.median(stages[stage][place] for place in alone) for stage in ("encode", "score")
    )
    engine_ms = [light["engine_ms"][place] for place in alone]
    rest_ms = [
        light["latencies_ms"][place] - light["engine_ms"][place] - stages["queue"][place]
        for place in alone
    ]
    usual_ms, usual_rest_ms = statistics.median(engine_ms), statistics.median(rest_ms)
    loop_ms = 1000 * statistics.mean((loop_s, full_loop_s))
    costs = Costs(
        checkpoint=rig.checkpoint.name,
        num_events=rig.plan.num_events,
        window_capacity=window.capacity,
        window_keep=window.keep,
        num_candidates=rig.plan.num_candidates,
        threads=threads,
        microbatch=settings.microbatch,
        batch_rows=settings.batch_rows,
        engine=_as_in_service(passes, rig.plan, settings.microbatch, encode_ms, score_ms),
        loop_ms=loop_ms,
        beyond_ms=max(usual_rest_ms - loop_ms, 0.0),
        contention=0.0,
        device_bytes=_state_bytes(engine, rig.plan),
        redis=Redis(
            state_bytes=codec.cost(rig.plan.num_events)[1],
            memory_over_bytes=rig.memory_over_bytes(codec),
            fetch_ms=asyncio.run(_fetch_ms(rig, codec)),
            sent_bytes=sent,
            received_bytes=received,
        ),
        noise=[
            (each / usual_ms, rest - usual_rest_ms)
            for each, rest in zip(engine_ms, rest_ms, strict=True)
        ],
        peak_per_s=peak_per_s,
        waited_for_cores=waited,
        machine=machine,
    )
    return replace(costs, contention=contention_of(costs))


def alone_of(load: dict[str, Any]) -> list[int]:
    """Places of the answers whose requests no other met, in order of time.

    Raises:
        RuntimeError: too few.
    """
    spans = sorted(
        (due, due + ms / 1000, place)
        for place, (due, ms) in enumerate(zip(load["due_s"], load["latencies_ms"], strict=True))
    )
    found, latest = [], 0.0
    for number, (due, end, place) in enumerate(spans):
        following = spans[number + 1][0] if number + 1 < len(spans) else end
        if due >= latest and end <= following:
            found.append(place)
        latest = max(latest, end)
    if len(found) < _LEAST_ALONE:
        raise RuntimeError("too few requests were alone to tell what one takes; raise --seconds")
    return found


def contention_of(costs: Costs) -> float:
    """That with which as much is answered to waiting clients as was measured."""
    work = Work(2, costs.num_candidates)
    low, high = _CONTENTION
    for _ in range(12):
        middle = (low + high) / 2
        answered = saturate(replace(costs, contention=middle), work, CLIENTS, _ANSWERS)
        low, high = (middle, high) if answered > costs.peak_per_s else (low, middle)
    return (low + high) / 2


def _loaded(
    rig: Rig, kind: str, much: float, seconds: float
) -> tuple[dict[str, Any], float, float]:
    """What the client says; seconds of the event loop per answer; and how long it was kept waiting
    for a core, for each second that it ran."""
    ran_s, waited_s = rig.loop_s()
    load = rig.open_load(much, seconds) if kind == "open" else rig.closed_load(int(much), seconds)
    end_s, end_waited_s = rig.loop_s()
    loop_s = end_s - ran_s
    return load, loop_s / len(load["latencies_ms"]), (end_waited_s - waited_s) / loop_s


def _as_in_service(
    passes: EngineCosts, plan: Plan, microbatch: int, encode_ms: float, score_ms: float
) -> EngineCosts:
    """With all that the service's batches do beside the engine's calls, as one request tells."""
    parts = [microbatch] * (plan.num_candidates // microbatch)
    rest = plan.num_candidates % microbatch
    alone_score_ms = sum(map(passes.score_ms, [*parts, rest] if rest else parts))
    by_encode, by_score = encode_ms / passes.encode_ms(1, 2), score_ms / alone_score_ms
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
