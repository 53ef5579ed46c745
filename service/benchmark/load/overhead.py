"""Owns measuring what the service adds to its engine: HTTP, JSON, the store, the queue.

The service under closed loads, the engine behind the barest route and the engine alone, in
processes of their own, take turns with the same requests. What the bare one adds is the machine's
and the web framework's: processors that fall asleep between requests, threads that wake each other.
"""

import statistics
from dataclasses import dataclass
from typing import Any

from service.benchmark.load.figures import Figures, figures
from service.benchmark.load.processes import bare, client_of, made_up_checkpoint, mfalcon
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
    bare: Figures  # under one client
    bare_many: Figures
    parts_ms: dict[str, float]  # where `one_client.p50_ms` goes; they add up to it
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
        bare(folder, setting.threads) as bare_port,
        client_of(bare_port, folder, plan) as bare_client,
        worker(_ALONE, str(folder), str(setting.threads)) as alone,
    ):
        kernels = alone.ask({"plan": plan.as_json()})
        seconds = {"seconds": setting.turn_s}
        one_client = {"do": "closed", "clients": 1} | seconds
        many_clients = one_client | {"clients": CLIENTS}
        turns = {
            "alone": lambda: alone.ask({"together": 1} | seconds),
            "bare": lambda: bare_client.ask(one_client),
            "one client": lambda: client.ask(one_client),
            "alone together": lambda: alone.ask({"together": CLIENTS} | seconds),
            "many clients": lambda: client.ask(many_clients),
            "bare, many": lambda: bare_client.ask(many_clients),
        }
        loads = take_turns(turns, rounds=setting.rounds, on_turn=on_turn)
    return _overhead(shape, setting, kernels, loads)


def _overhead(
    shape: Shape, setting: Setting, kernels: str, loads: dict[str, list[Any]]
) -> Overhead:
    names = ("one client", "many clients", "bare", "bare, many")
    one, many, floor, bare_many = (figures(loads[name]) for name in names)
    if one.p50_ms is None or floor.p50_ms is None:
        raise RuntimeError("a service answered nothing in its turns")
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
        bare=floor,
        bare_many=bare_many,
        parts_ms=_parts_ms(one.p50_ms, **one.p50_stages_ms),
        alone_ms=alone_ms,
        alone_per_s=per_s,
        ratios={
            "service_over_engine": many.whole_per_s / max(per_s.values()),
            "bare_over_engine": bare_many.whole_per_s / max(per_s.values()),
            "p50_beyond_engine_ms": one.p50_ms - alone_ms,
            "p50_beyond_bare_ms": one.p50_ms - floor.p50_ms,
            "p50_bare_beyond_engine_ms": floor.p50_ms - alone_ms,
        },
    )


def _parts_ms(p50_ms: float, *, total: float, **stages: float) -> dict[str, float]:
    """Of a request, from the medians of what its answers tell, in milliseconds."""
    rest = total - sum(stages.values())
    return stages | {"rest of the handler": rest, "HTTP and client": p50_ms - total}
