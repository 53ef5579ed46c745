"""Owns what the engine's calls cost by what they are asked: fitted to calls of different sizes.

Never runs a service; what a service adds to these calls is measured there.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.history import Event, History
from service.benchmark.engine.passes import of_live
from service.benchmark.load.traffic import Visitor, request_time, visitors
from service.benchmark.timing import OnTurn, medians_ms, time_in_turns
from service.planning.costs import Engine as EngineCosts
from service.planning.rig import Rig
from service.settings import Settings

_TOGETHER = (1, 2, 4, 8, 16)
_SHARES = (0.125, 0.25, 0.5, 1.0)
_PENDING = 1
"""The row that is run anew in each request."""


def measure_engine(rig: Rig, *, rounds: int, on_turn: OnTurn) -> EngineCosts:
    """Of returning users with one new event, and of histories encoded from nothing; the service
    waits meanwhile."""
    engine, plan = Engine(rig.checkpoint.network), rig.plan
    microbatch = Settings.model_construct().microbatch
    returning = [_returning(engine, v) for v in visitors(plan)[: _TOGETHER[-1]]]
    (live, *_) = (of_live(each.live) for each in engine.encode(returning[:1]))
    contenders: dict[str, Callable[[], object]] = {}
    encodes: dict[str, tuple[int, int, int]] = {}  # name -> (1, jobs, rows)
    for jobs in _TOGETHER:
        name = f"encode {jobs} together"
        encodes[name] = (1, jobs, jobs * (1 + _PENDING))
        contenders[name] = _encoding(engine, returning[:jobs])
    for share in _SHARES:
        rows = max(2, int(share * plan.num_events))
        history = returning[0].history.cut(0, rows)
        job = EncodeJob(engine.empty_state(), history, returning[0].request_time)
        encodes[f"encode {rows} rows"] = (1, 1, rows)
        contenders[f"encode {rows} rows"] = _encoding(engine, [job])
    scores: dict[str, tuple[int, int]] = {}  # name -> (1, candidates)
    most = min(plan.num_candidates, microbatch)
    candidates = torch.randint(plan.num_items, (most,)).to(engine.device)
    for share in _SHARES:
        size = max(1, int(share * most))
        scores[f"score {size}"] = (1, size)
        batch = [Microbatch(live, candidates[:size])]
        contenders[f"score {size}"] = lambda batch=batch: engine.score(batch)  # type: ignore[misc]
    finish = torch.cuda.synchronize if engine.device.type == "cuda" else lambda: None
    times = medians_ms(time_in_turns(contenders, rounds=rounds, on_turn=on_turn, finish=finish))
    encode_pass, encode_job, encode_row = fitted(encodes.values(), [times[n] for n in encodes])
    score_pass, score_candidate = fitted(scores.values(), [times[name] for name in scores])
    return EngineCosts(
        encode_pass_ms=encode_pass,
        encode_job_ms=encode_job,
        encode_row_ms=encode_row,
        score_pass_ms=score_pass,
        score_candidate_ms=score_candidate,
    )


def fitted(sizes: Iterable[Sequence[int]], times_ms: Sequence[float]) -> list[float]:
    """What one unit of each size costs, none less than nothing: the nearest in relative terms.

    Sizes that would cost less than nothing are left out one by one.
    """
    table = np.array([list(each) for each in sizes], dtype=np.float64)
    times = np.array(times_ms)
    chosen = list(range(table.shape[1]))
    while True:
        relative = table[:, chosen] / times[:, None]
        found, *_ = np.linalg.lstsq(relative, np.ones(len(times)))
        if (found >= 0).all() or len(chosen) == 1:
            break
        del chosen[int(found.argmin())]
    costs = np.zeros(table.shape[1])
    costs[chosen] = np.maximum(found, 0.0)
    return [float(cost) for cost in costs]


def _returning(engine: Engine, visitor: Visitor) -> EncodeJob:
    history = History.of(Event(*event) for event in visitor.history)
    (encoded,) = engine.encode([EncodeJob(engine.empty_state(), history)])
    event = visitor.next_event()
    longer, _ = history.merge([Event(*event)], engine.config.window)
    return EncodeJob(encoded.state, longer, request_time(event))


def _encoding(engine: Engine, jobs: Sequence[EncodeJob]) -> Callable[[], object]:
    return lambda: engine.retrieve_all([of_live(each.live) for each in engine.encode(jobs)])
