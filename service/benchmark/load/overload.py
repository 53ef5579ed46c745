"""Owns measuring what more requests than can be served do to those that are: an open load.

First the most that the service answers, then Poisson arrivals at a share and at multiples of that,
whatever comes of them. Never waits for answers before it sends, so that waiting is seen.

A machine is not as fast in one minute as in another, so what a flood leaves is a share of what
clients that wait were answered right before it and right after. Users are at all places of their
windows at any time, or these would be rebuilt for all of them at once, in one turn or another.

Client and service share a machine, so a flood takes from the service what it takes to be sent,
whoever refuses it. How much is measured beside: the most that the service answers while a flood of
the same rate goes to a process that does nothing but refuse.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from model.checkpoint import load
from model.config import HSTUConfig
from service.benchmark.load.floods import (
    Beside,
    Flood,
    beside_of,
    flood_of,
    in_time_per_s,
    ratios_of,
)
from service.benchmark.load.processes import client_of, made_up_checkpoint, mfalcon, refuser
from service.benchmark.load.setting import Setting
from service.benchmark.shapes import Shape
from service.benchmark.timing import OnTurn
from service.benchmark.worker import Worker

BELOW = 0.7
"""Of the most that is answered: what a service is planned for."""

CLIENTS = (1, 2, 4, 8)
"""Of the closed loads that show the most that is answered in time; the first of all warms up."""

SHORT_S = 20.0
"""The most that a closed load lasts: it has nothing to show for longer."""

_RESIDENT = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Overload:
    shape: Shape
    setting: Setting
    peak_per_s: float  # answered within the budget, the most of the first closed loads
    floods: list[Flood]
    ratios: dict[str, float | None]


def measure_overload(
    of: Shape | Path, setting: Setting, *, times: list[float], on_turn: OnTurn
) -> Overload:
    """`of`: the sizes of a model that is made up, or the folder of a checkpoint. `times`: multiples
    of the peak, each offered for a turn.

    Raises:
        CheckpointError: the checkpoint can not be used.
        RuntimeError: a process did not start or ended, or nothing was answered in time.
    """
    if isinstance(of, Shape):
        with made_up_checkpoint(of, setting.seed) as folder:
            return _measure(folder, of, of.config(), setting, times, on_turn)
    checkpoint = load(of)
    shape = Shape.of(checkpoint.name, checkpoint.config)
    return _measure(of, shape, checkpoint.config, setting, times, on_turn)


def _measure(
    folder: Path,
    shape: Shape,
    config: HSTUConfig,
    setting: Setting,
    times: list[float],
    on_turn: OnTurn,
) -> Overload:
    plan = replace(setting.plan(shape, config), num_phases=config.window.step)
    with (
        mfalcon(folder, setting.flags(shape, config)) as port,
        client_of(port, folder, plan) as client,
        refuser() as other_port,
        client_of(other_port, folder, plan) as other,
    ):
        num_turns, turns = 3 + len(CLIENTS) + 3 * len(times), count()
        loads = _Loads(client, other, setting, lambda who: on_turn(who, next(turns), num_turns))
        peak_per_s, best = 0.0, CLIENTS[0]
        for clients in (CLIENTS[0], *CLIENTS):
            peak_per_s, best = max((peak_per_s, best), (loads.wait(clients), clients))
        if not peak_per_s:
            raise RuntimeError("no request was answered within the budget; raise --budget-ms")
        floods, before_per_s = [], peak_per_s
        for multiple in (BELOW, *times):
            rate = multiple * peak_per_s
            load = loads.flood(f"{multiple:g} x", rate)
            resident_bytes = _resident_bytes(port)
            beside = loads.beside(f"{multiple:g} x", rate, best) if multiple > 1 else None
            after_per_s = loads.wait(best)
            around_per_s = (before_per_s + after_per_s) / 2
            floods.append(flood_of(multiple, around_per_s, load, resident_bytes, beside))
            before_per_s = after_per_s
    return Overload(shape, setting, peak_per_s, floods, ratios_of(floods))


class _Loads:
    """What a service is asked, and a process that refuses; a turn each."""

    def __init__(
        self, client: Worker, other: Worker, setting: Setting, turn: Callable[[str], None]
    ) -> None:
        self._client, self._other, self._turn = client, other, turn
        self._flood_s, self._short_s = setting.turn_s, min(setting.turn_s, SHORT_S)

    def wait(self, clients: int) -> float:
        """What clients that wait are answered in time, a second."""
        self._turn(f"{clients} clients")
        return in_time_per_s(self._client.ask(self._waiting(clients)))

    def flood(self, name: str, rate: float) -> dict[str, Any]:
        self._turn(name)
        load: dict[str, Any] = self._client.ask(self._flooding(rate, self._flood_s))
        return load

    def beside(self, name: str, rate: float, clients: int) -> Beside:
        self._turn(f"{name}, refused elsewhere")
        self._other.tell(self._flooding(rate, self._short_s))
        load = self._client.ask(self._waiting(clients))
        return beside_of(load, self._other.answer())

    def _waiting(self, clients: int) -> dict[str, Any]:
        return {"do": "closed", "clients": clients, "seconds": self._short_s}

    def _flooding(self, rate: float, seconds: float) -> dict[str, Any]:
        return {"do": "open", "rate": rate, "seconds": seconds}


def _resident_bytes(port: int) -> int:
    # The environment's proxies would answer for a service on loopback.
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    found = _RESIDENT.search(text)
    if found is None:
        raise RuntimeError("the service does not tell its memory: this machine has no /proc")
    return int(float(found[1]))
