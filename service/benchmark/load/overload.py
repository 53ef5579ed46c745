"""Owns measuring what more requests than can be served do to those that are: an open load.

First the most that the service answers, then Poisson arrivals at a share and at multiples of that,
whatever comes of them. Never waits for answers before it sends, so that waiting is seen.

Client and service share a machine, so a flood takes from the service what it takes to be sent,
whoever refuses it. How much is measured beside: the most that the service answers while a flood of
the same rate goes to a process that does nothing but refuse.
"""

import re
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from model.checkpoint import load
from model.config import HSTUConfig
from service.benchmark.load.figures import percentile
from service.benchmark.load.processes import client_of, made_up_checkpoint, mfalcon, refuser
from service.benchmark.load.setting import Setting
from service.benchmark.shapes import Shape
from service.benchmark.timing import OnTurn

BELOW = 0.7
"""Of the most that is answered: what a service is planned for."""

CLIENTS = (1, 2, 4, 8)
"""Of the closed loads that show the most that is answered in time; the first of all warms up."""

SHORT_S = 20.0
"""The most that a closed load lasts: it has nothing to show for longer."""

_RESIDENT = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Beside:
    """What became of a closed load, and of a flood that was refused elsewhere meanwhile."""

    answered_per_s: float  # within the budget
    refused_p99_ms: float


@dataclass(frozen=True, slots=True)
class Flood:
    """What became of one open load."""

    times_peak: float
    offered_per_s: float
    answered_per_s: float  # within the budget, cut short or not
    answered_share: float  # of the requests that were not refused
    whole_share: float  # with every candidate scored, of the answers
    num_refused: int  # 429
    num_failed: int  # other statuses
    refused_p99_ms: float | None
    resident_bytes: int  # of the service's process afterwards
    beside: Beside | None = None  # None: not beyond the peak


@dataclass(frozen=True, slots=True)
class Overload:
    shape: Shape
    setting: Setting
    peak_per_s: float  # answered within the budget, the most of the closed loads
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
    with (
        mfalcon(folder, setting.flags(shape, config)) as port,
        client_of(port, folder, setting.plan(shape, config)) as client,
        refuser() as other_port,
        client_of(other_port, folder, setting.plan(shape, config)) as other,
    ):
        num_turns = 2 + len(CLIENTS) + 2 * len(times)
        peak_per_s, best = 0.0, CLIENTS[0]
        turns, short_s = count(), min(setting.turn_s, SHORT_S)
        for clients in (CLIENTS[0], *CLIENTS):
            on_turn(f"{clients} clients", next(turns), num_turns)
            load = client.ask({"do": "closed", "clients": clients, "seconds": short_s})
            peak_per_s, best = max((peak_per_s, best), (_in_time_per_s(load), clients))
        if not peak_per_s:
            raise RuntimeError("no request was answered within the budget; raise --budget-ms")
        floods = []
        for multiple in (BELOW, *times):
            on_turn(f"{multiple:g} x", next(turns), num_turns)
            flood = {"do": "open", "rate": multiple * peak_per_s, "seconds": setting.turn_s}
            found = flood_of(multiple, client.ask(flood), _resident_bytes(port))
            if multiple > 1:
                on_turn(f"{multiple:g} x, refused elsewhere", next(turns), num_turns)
                other.tell(flood | {"seconds": short_s})
                load = client.ask({"do": "closed", "clients": best, "seconds": short_s})
                found = replace(found, beside=beside_of(load, other.answer()))
            floods.append(found)
    return Overload(shape, setting, peak_per_s, floods, ratios_of(peak_per_s, floods))


def flood_of(multiple: float, load: dict[str, Any], resident_bytes: int) -> Flood:
    """From what the client said."""
    num_whole, refused_ms = len(load["latencies_ms"]), load["refused_ms"]
    num_within = _num_in_time(load)
    num_answers = num_whole + load["num_cut"]
    return Flood(
        times_peak=multiple,
        offered_per_s=load["num_offered"] / load["elapsed_s"],
        answered_per_s=num_within / load["elapsed_s"],
        answered_share=num_within / max(load["num_offered"] - len(refused_ms), 1),
        whole_share=num_whole / max(num_answers, 1),
        num_refused=len(refused_ms),
        num_failed=load["num_failed"] - len(refused_ms),
        refused_p99_ms=percentile(refused_ms, 99) if refused_ms else None,
        resident_bytes=resident_bytes,
    )


def beside_of(load: dict[str, Any], refused: dict[str, Any]) -> Beside:
    """From what the clients of both said."""
    refused_p99_ms = percentile(refused["refused_ms"], 99)
    return Beside(answered_per_s=_in_time_per_s(load), refused_p99_ms=refused_p99_ms)


def _in_time_per_s(load: dict[str, Any]) -> float:
    return _num_in_time(load) / float(load["elapsed_s"])


def _num_in_time(load: dict[str, Any]) -> int:
    """Answers within the budget, cut short or not."""
    return int(load["num_within"] + load["num_cut_within"])


def ratios_of(peak_per_s: float, floods: list[Flood]) -> dict[str, float | None]:
    """The named figures; the first flood is the one below the peak."""
    below, *over = floods
    refused = [flood.refused_p99_ms for flood in over if flood.refused_p99_ms is not None]
    besides = [(flood.answered_per_s, flood.beside) for flood in over if flood.beside is not None]
    return {
        "answered_below": below.answered_share,
        "whole_below": below.whole_share,
        "overload_over_peak": min((f.answered_per_s for f in over), default=0.0) / peak_per_s,
        "overload_over_elsewhere": min(
            (per_s / beside.answered_per_s for per_s, beside in besides), default=None
        ),
        "refused_p99_ms": max(refused, default=None),
        "refused_elsewhere_p99_ms": max((b.refused_p99_ms for _, b in besides), default=None),
        "resident_growth": max(flood.resident_bytes for flood in floods) / below.resident_bytes,
    }


def _resident_bytes(port: int) -> int:
    # The environment's proxies would answer for a service on loopback.
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    found = _RESIDENT.search(text)
    if found is None:
        raise RuntimeError("the service does not tell its memory: this machine has no /proc")
    return int(float(found[1]))
