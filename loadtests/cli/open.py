"""`python -m loadtests open`: requests on a schedule, whatever becomes of those before.

Owns the options, and what is printed of rates.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from loadtests.cli.options import (
    DEFAULT_HOST,
    BudgetOption,
    FolderOption,
    HostOption,
    Output,
    OutputOption,
    PopulationOption,
    RemoteOption,
    SeedOption,
    SloOption,
    checked_host,
)
from loadtests.cli.output import conclude, explained, say
from loadtests.cli.recording import recording
from loadtests.ramp import Ramp, Step, ramp
from loadtests.record import Recorder
from loadtests.session import session
from loadtests.slo import DEFAULT, load
from loadtests.stability import PROCESS
from loadtests.watch import listener_pid

Measure = Callable[[float], Awaitable[Step]]


def open_(
    host: HostOption = DEFAULT_HOST,
    rate: Annotated[float, typer.Option(min=0.1, help="requests a second; of a ramp, first")] = 20,
    seconds: Annotated[float, typer.Option(min=0.5, help="how long; of a ramp, each rate")] = 10,
    is_ramp: Annotated[
        bool, typer.Option("--ramp", help="find the saturation, and the best rate in budget")
    ] = False,
    budget_ms: BudgetOption = 50,
    population: PopulationOption = 200,
    seed: SeedOption = 0,
    folder: FolderOption = None,
    slo: SloOption = DEFAULT,
    output: OutputOption = Output.TABLE,
    allow_remote: RemoteOption = False,
) -> None:
    """Poisson arrivals at a fixed rate, judged; or rates that rise until it is saturated."""
    host = checked_host(host, allow_remote=allow_remote)
    title = f"rates from {rate:g}/s" if is_ramp else f"open loop, {rate:g}/s"
    options = {"population": population, "budget_ms": budget_ms, "seed": seed}
    with explained():
        bounds = load(slo)
        with recording(title, "open", folder, budget_ms) as (folder, recorder):
            steps = asyncio.run(_run(host, recorder, rate, seconds, is_ramp=is_ramp, **options))
    if is_ramp:
        _print_ramp(steps, f"{title}, {folder}", output)
    else:
        conclude(folder, bounds, f"{title} at {host}", output)


async def _run(
    host: str, recorder: Recorder, rate: float, seconds: float, *, is_ramp: bool, **options: Any
) -> Ramp:
    pid = listener_pid(host)
    processes = {PROCESS: pid} if pid else {}
    async with session(host, processes, recorder, **options) as running:

        async def measure(rate: float) -> Step:
            step = await running.phase(rate, seconds)
            progress(step)
            return step

        if is_ramp:
            return await ramp(measure, first_rate=rate, budget_ms=options["budget_ms"])
        return Ramp([await measure(rate)], options["budget_ms"])


def progress(step: Step) -> None:
    """A line on standard error for a rate that is done."""
    say(f"{step.rate:.1f}/s: {step.good_per_s:.1f}/s in budget, p99 {_ms(step.p99_ms)}")


def _print_ramp(found: Ramp, title: str, output: Output) -> None:
    if output is Output.JSON:
        facts = {"saturation_per_s": found.saturation_per_s, "best_rate": found.best_rate}
        typer.echo(json.dumps(facts | asdict(found)))
        return
    table = Table("rate", "in budget", "whole", "p99", title=title, title_justify="left")
    for step in sorted(found.steps, key=lambda each: each.rate):
        table.add_row(
            f"{step.rate:.1f}/s",
            f"{step.good_per_s:.1f}/s",
            f"{100 * step.whole_share:.1f}%",
            _ms(step.p99_ms),
        )
    best = "none" if found.best_rate is None else f"{found.best_rate:.1f}/s"
    Console().print(table)
    Console().print(
        f"saturated at {found.saturation_per_s:.1f}/s in budget; "
        f"highest rate with p99 within {found.budget_ms:g} ms: {best}",
        highlight=False,
    )


def _ms(value: float | None) -> str:
    return "over 1% failed" if value is None else f"{value:.1f} ms"
