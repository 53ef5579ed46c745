"""Owns measuring what the service adds to its engine: HTTP, JSON, the store, the queue.

The service under closed loads and its engine alone, in processes of their own, take turns with the
same requests.
"""

import statistics
from dataclasses import dataclass
from typing import Any

from service.benchmark.load.figures import Figures, figures
from service.benchmark.load.processes import client_of, made_up_checkpoint, mfalcon
from service.benchmark.load.setting import Setting
from service.benchmark.shapes import Shape
from service.benchmark.timing import OnTurn, take_turns
from service.benchmark.worker import worker

CLIENTS = 16
_ALONE = "service.benchmark.load.engine_alone"


@dataclass(frozen=True, slots=True)
class Overhead:
    """`alone` is the engine without a service."""

    shape: Shape
    setting: Setting
    kernels: str
    one_client: Figures
    many_clients: Figures
    alone_ms: float  # median of single requests
    alone_per_s: dict[int, float]  # requests/s by how many are answered together
    ratios: dict[str, float]


def measure_overhead(shape: Shape, setting: Setting, *, on_turn: OnTurn) -> Overhead:
    """
    Raises:
        RuntimeError: a process did not start or ended, or the service answered nothing.
    """
    plan = setting.plan(shape)
    with (
        made_up_checkpoint(shape, setting.seed) as folder,
        mfalcon(folder, setting.flags(shape)) as port,
        client_of(port, folder, plan) as client,
        worker(_ALONE, str(folder), str(setting.threads)) as alone,
    ):
        kernels = alone.ask({"plan": plan.as_json()})
        seconds = {"seconds": setting.turn_s}
        turns = {
            "alone": lambda: alone.ask({"together": 1} | seconds),
            "one client": lambda: client.ask({"do": "closed", "clients": 1} | seconds),
            "alone together": lambda: alone.ask({"together": CLIENTS} | seconds),
            "many clients": lambda: client.ask({"do": "closed", "clients": CLIENTS} | seconds),
        }
        loads = take_turns(turns, rounds=setting.rounds, on_turn=on_turn)
    return _overhead(shape, setting, kernels, loads)


def _overhead(
    shape: Shape, setting: Setting, kernels: str, loads: dict[str, list[Any]]
) -> Overhead:
    one, many = figures(loads["one client"]), figures(loads["many clients"])
    if one.p50_ms is None:
        raise RuntimeError("the service answered nothing in its turns")
    per_s = {
        together: statistics.median(together / statistics.mean(calls) for calls in loads[name])
        for together, name in ((1, "alone"), (CLIENTS, "alone together"))
    }
    alone_ms = 1000 * statistics.median(statistics.median(calls) for calls in loads["alone"])
    return Overhead(
        shape=shape,
        setting=setting,
        kernels=kernels,
        one_client=one,
        many_clients=many,
        alone_ms=alone_ms,
        alone_per_s=per_s,
        ratios={
            "service_over_engine": many.whole_per_s / max(per_s.values()),
            "p50_beyond_engine_ms": one.p50_ms - alone_ms,
        },
    )
