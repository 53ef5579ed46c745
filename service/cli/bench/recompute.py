"""Owns `mfalcon bench recompute`: mfalcon against a service without states."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.bench.loads import (
    COLUMNS,
    EngineThreads,
    Seconds,
    ShapeName,
    Store,
    Users,
    cells,
    turns_shown,
)
from service.cli.bench.options import Rounds
from service.cli.output import Output, machine_line, print_json, print_table, say, where

if TYPE_CHECKING:
    from service.benchmark.load.returning import Contest


def recompute(
    shape: ShapeName = "mid",
    budget_ms: Annotated[float, typer.Option(min=1, help="what an answer may take")] = 50.0,
    users: Users = 24,
    threads: EngineThreads = 1,
    recompute_threads: Annotated[
        int, typer.Option(min=0, help="CPU threads of the other service; 0 takes every core")
    ] = 0,
    store: Store = "embedded",
    seconds: Seconds = 3.0,
    rounds: Rounds = 3,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure `mfalcon serve` against a plain FastAPI and torch service that keeps no states.

    The other service recomputes each request in the fastest plain way, its candidates in one pass.
    Both get the same returning users' requests over loopback, one service at a time, in turns.
    """
    from service.benchmark.load.returning import measure_returning
    from service.benchmark.load.setting import Setting
    from service.benchmark.shapes import SHAPES

    setting = Setting(
        threads=threads,
        num_users=users,
        budget_ms=budget_ms,
        store=store,
        turn_s=seconds,
        rounds=rounds,
        seed=seed,
    )
    try:
        with turns_shown() as on_turn:
            found = measure_returning(
                SHAPES[shape], setting, recompute_threads=recompute_threads, on_turn=on_turn
            )
    except RuntimeError as error:
        raise typer.Exit(2) from error
    if output == "json":
        print_json(asdict(found) | {"recompute_threads": recompute_threads} | where())
        return
    _print(found)


def _print(found: "Contest") -> None:
    rows = [
        [f"{name}, {load}", *cells(services[load])]
        for load in found.figures["mfalcon"]
        for name, services in found.figures.items()
    ]
    sizes = found.shape
    print_table(
        f"{sizes.name}: {sizes.num_events} events, {sizes.num_candidates} candidates, one new "
        f"event a request, in time within {found.setting.budget_ms:g} ms; medians of "
        f"{found.setting.rounds} interleaved rounds of {found.setting.turn_s:g} s",
        ["", *COLUMNS],
        rows,
    )
    for name, ratio in found.ratios.items():
        told = "the other service reached none" if ratio is None else f"{ratio:.1f}x"
        say(f"{name}: {told}")
    say(f"scores agree within {found.max_abs_diff:.1e}\n{machine_line()}")
