"""Owns `mfalcon bench overload`: a service that is asked for more than it can do."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.bench.loads import (
    EngineThreads,
    ShapeName,
    Store,
    engine_threads,
    turns_shown,
)
from service.cli.output import Output, machine_line, print_json, print_table, say, where

if TYPE_CHECKING:
    from service.benchmark.load.overload import Overload

_COLUMNS = ["asked", "peak", "rest", "in time", "whole", "refused", "p99", "error", "MiB"]
"""Requests a second; answers in time a second as a share of the peak and of what is left of it;
shares and percentiles as the title says; other statuses; resident memory."""


def overload(
    shape: ShapeName = "ml-1m",
    checkpoint: Annotated[
        Path | None, typer.Option(help="folder of a checkpoint, instead of one made up")
    ] = None,
    budget_ms: Annotated[float, typer.Option(min=1, help="what an answer may take")] = 50.0,
    times: Annotated[
        list[float] | None, typer.Option(min=1, help="multiples of the peak; 2, 5 and 10")
    ] = None,
    users: Annotated[
        int, typer.Option(min=16, help="users, each with one request at a time")
    ] = 256,
    threads: EngineThreads = 0,
    store: Store = "embedded",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="of each flood; clients that wait do for 20 at most")
    ] = 10.0,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Measure `mfalcon serve` under requests that do not wait for its answers.

    The peak is what 1 to 8 clients that wait are answered within the budget, at most. Then requests
    come at random times, at 70% of that rate and at multiples of it: what is answered in time, as a
    share of what those clients are answered before and after, and what is refused. What a flood
    takes from this machine whoever refuses it is measured beside.
    """
    from service.benchmark.load.overload import measure_overload
    from service.benchmark.load.setting import Setting
    from service.benchmark.shapes import SHAPES

    setting = Setting(
        threads=engine_threads(threads),
        num_users=users,
        budget_ms=budget_ms,
        store=store,
        turn_s=seconds,
        rounds=1,
        seed=seed,
    )
    try:
        with turns_shown() as on_turn:
            found = measure_overload(
                checkpoint or SHAPES[shape],
                setting,
                times=times or [2.0, 5.0, 10.0],
                on_turn=on_turn,
            )
    except RuntimeError as error:
        raise typer.Exit(2) from error
    if output == "json":
        print_json(asdict(found) | where())
        return
    _print(found)


def _print(found: "Overload") -> None:
    sizes, setting = found.shape, found.setting
    rows = [
        [
            f"{flood.times_peak:g} x",
            f"{flood.offered_per_s:.0f}",
            f"{flood.share:.2f}",
            f"{flood.answered_per_s / flood.beside.answered_per_s:.2f}" if flood.beside else "-",
            f"{flood.answered_share:.1%}",
            f"{flood.whole_share:.1%}",
            str(flood.num_refused),
            "-" if flood.refused_p99_ms is None else f"{flood.refused_p99_ms:.1f}",
            str(flood.num_failed),
            f"{flood.resident_bytes / 2**20:.0f}",
        ]
        for flood in found.floods
    ]
    print_table(
        f"{sizes.name}: {sizes.num_events} events, {sizes.num_candidates} candidates, budget "
        f"{setting.budget_ms:g} ms; Poisson arrivals at multiples of the {found.peak_per_s:.0f} "
        f"requests/s that waiting clients are answered in time, {setting.turn_s:g} s each (peak: "
        "of what these are answered before and after; rest: of what they are while another process "
        "refuses the flood; in time: of what is not refused; whole: of the answers; p99: of "
        "refusals)",
        ["", *_COLUMNS],
        rows,
    )
    for name, ratio in found.ratios.items():
        say(f"{name}: {'-' if ratio is None else f'{ratio:.3g}'}")
    say(machine_line())
