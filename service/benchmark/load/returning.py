"""Owns measuring mfalcon against a service that recomputes each request, on returning users.

Both run the same checkpoint on the same cores and get the same requests from clients of their own,
one service at a time, in turns. A request counts if it is answered whole and within the budget.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from service.benchmark.load.figures import Figures, figures
from service.benchmark.load.processes import client_of, made_up_checkpoint, mfalcon, recompute
from service.benchmark.load.setting import Setting
from service.benchmark.shapes import Shape
from service.benchmark.timing import OnTurn, take_turns

CLIENTS = (1, 4, 16)
"""Of the closed loads."""

RATES = (5.0, 10.0, 20.0, 40.0)
"""Requests a second of the open loads."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Figures by service (`mfalcon`, `recompute`) and load (`4 clients`, `20 requests/s`)."""

    shape: Shape
    setting: Setting
    figures: dict[str, dict[str, Figures]]
    ratios: dict[str, float | None]
    max_abs_diff: float  # between the scores that both give for the same request


def measure_returning(
    shape: Shape, setting: Setting, *, recompute_threads: int, on_turn: OnTurn
) -> Contest:
    """
    Raises:
        RuntimeError: a process did not start or ended.
    """
    plan = setting.plan(shape)
    with (
        made_up_checkpoint(shape, setting.seed) as folder,
        mfalcon(folder, setting.flags(shape)) as mine,
        recompute(folder, recompute_threads) as theirs,
        client_of(mine, folder, plan) as client,
        client_of(theirs, folder, plan) as their_client,
    ):
        difference = _difference(client.ask({"do": "one"}), their_client.ask({"do": "one"}))
        turns = {
            _name(service, load): partial(asked.ask, message)
            for load, message in _loads(setting.turn_s).items()
            for service, asked in (("mfalcon", client), ("recompute", their_client))
        }
        found = take_turns(turns, rounds=setting.rounds, on_turn=on_turn)
    by_service = {
        service: {load: figures(found[_name(service, load)]) for load in _loads(setting.turn_s)}
        for service in ("mfalcon", "recompute")
    }
    return Contest(shape, setting, by_service, _ratios(by_service), difference)


def _loads(turn_s: float) -> dict[str, dict[str, Any]]:
    """What the client is told, by the name of the load."""
    closed = {
        f"{clients} client{'s'[: clients > 1]}": {"do": "closed", "clients": clients}
        for clients in CLIENTS
    }
    opened = {f"{rate:g} requests/s": {"do": "open", "rate": rate} for rate in RATES}
    return {name: load | {"seconds": turn_s} for name, load in (closed | opened).items()}


def _name(service: str, load: str) -> str:
    return f"{service}, {load}"


def _ratios(found: dict[str, dict[str, Figures]]) -> dict[str, float | None]:
    """Of the most that each service reached under any load; None where the other reached none."""

    def most(service: str, figure: str) -> float:
        reached: list[float] = [getattr(each, figure) for each in found[service].values()]
        return max(reached)

    return {
        name: most("mfalcon", figure) / theirs if (theirs := most("recompute", figure)) else None
        for name, figure in (
            ("within_budget_over_recompute", "within_per_s"),
            ("whole_over_recompute", "whole_per_s"),
        )
    }


def _difference(mine: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Between the scores, place by place."""
    pairs = zip(mine["items"], theirs["items"], strict=True)
    return max(abs(float(one["score"]) - float(other["score"])) for one, other in pairs)
