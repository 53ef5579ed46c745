"""Owns `mfalcon bench service`: what the service adds to its engine."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from service.cli.bench.loads import (
    COLUMNS,
    EngineThreads,
    Seconds,
    ShapeName,
    Store,
    Users,
    cells,
    engine_threads,
    turns_shown,
)
from service.cli.bench.options import Rounds
from service.cli.output import Output, machine_line, print_json, print_table, say, where

if TYPE_CHECKING:
    from service.benchmark.load.overhead import Overhead

_BUDGET_MS = 1000.0


def serving(
    shape: ShapeName = "ml-1m",
    users: Users = 64,
    threads: EngineThreads = 0,
    store: Store = "embedded",
    seconds: Seconds = 3.0,
    rounds: Rounds = 5,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure `mfalcon serve` against its engine alone, on the same requests, in turns.

    Returning users, each request with one new event and candidates, over loopback: one client, and
    16 at a time. The engine alone answers them one by one and 16 together, whichever is faster. A
    bare FastAPI route around the same engine calls shows what any such service adds.
    """
    from service.benchmark.load.overhead import measure_overhead
    from service.benchmark.load.setting import Setting
    from service.benchmark.shapes import SHAPES

    setting = Setting(
        threads=engine_threads(threads),
        num_users=users,
        budget_ms=_BUDGET_MS,
        store=store,
        turn_s=seconds,
        rounds=rounds,
        seed=seed,
    )
    try:
        with turns_shown() as on_turn:
            found = measure_overhead(SHAPES[shape], setting, on_turn=on_turn)
    except RuntimeError as error:
        raise typer.Exit(2) from error
    if output == "json":
        print_json(asdict(found) | where())
        return
    _print(found)


def _print(found: "Overhead") -> None:
    loads = {
        "1 client": found.one_client,
        "16 clients": found.many_clients,
        "bare, 1 client": found.bare,
        "bare, 16 clients": found.bare_many,
    }
    rows = [[name, *cells(load)] for name, load in loads.items()]
    rows += [
        [f"engine, {together} at once", f"{rate:.1f}", "", "", "", "", "", ""]
        for together, rate in found.alone_per_s.items()
    ]
    sizes = found.shape
    print_table(
        f"{sizes.name}: {sizes.num_events} events, {sizes.num_candidates} candidates, one new "
        f"event a request; medians of {found.setting.rounds} interleaved rounds of "
        f"{found.setting.turn_s:g} s (bare: the engine's calls behind a FastAPI route that only "
        "reads the JSON)",
        ["", *COLUMNS],
        rows,
    )
    ratios = found.ratios
    parts = ", ".join(f"{part} {ms:.2f}" for part, ms in found.parts_ms.items())
    say(
        f"service_over_engine: {ratios['service_over_engine']:.2f} of the engine's "
        f"requests/s with 16 clients (bare_over_engine: {ratios['bare_over_engine']:.2f})\n"
        f"p50_beyond_engine_ms: {ratios['p50_beyond_engine_ms']:.2f} of "
        f"{found.one_client.p50_ms:.2f} ms with 1 client (engine alone: {found.alone_ms:.2f} ms; "
        f"its time as the answers tell it: {found.one_client.p50_engine_ms:.2f} ms)\n"
        f"p50_bare_beyond_engine_ms: {ratios['p50_bare_beyond_engine_ms']:.2f} of "
        f"{found.bare.p50_ms:.2f} ms (its engine's time: {found.bare.p50_engine_ms:.2f} ms)\n"
        f"p50_beyond_bare_ms: {ratios['p50_beyond_bare_ms']:.2f}\n"
        f"where a request's time goes, 1 client, ms: {parts}\n"
        f"{machine_line()}"
    )
