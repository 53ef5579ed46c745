"""`python -m loadtests faults`: what becomes of answers while Redis, network, disk or service fail.

Owns the options and the table of verdicts. Never does a fault.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadtests.cli.options import BudgetOption, FolderOption, PopulationOption, SeedOption
from loadtests.cli.output import explained, say
from loadtests.cli.recording import recording
from loadtests.exits import FAILED, NOT_JUDGED
from loadtests.faults.run import FAULTS, run
from loadtests.faults.stage import Plan
from loadtests.faults.verdict import Verdict

NAMES = [fault.name for fault in FAULTS]


def faults(
    only: Annotated[
        list[str] | None, typer.Option(help=f"a fault, or several times: {', '.join(NAMES)}")
    ] = None,
    seconds_each: Annotated[float, typer.Option(min=0.5, help="how long each lasts")] = 5.0,
    rate: Annotated[float, typer.Option(min=1, help="requests a second")] = 25.0,
    budget_ms: BudgetOption = 250.0,
    kills: Annotated[int, typer.Option(min=1, help="of the service, one after another")] = 20,
    population: PopulationOption = 100,
    seed: SeedOption = 0,
    folder: FolderOption = None,
) -> None:
    """Start Redis and the service, do them harm under load, and judge the answers.

    Exit code 1 if an expectation does not hold. A fault whose answers were late while other
    programs took the processor is done again; exit code 3 if it can not be judged then, either.
    """
    if unknown := set(only or ()) - set(NAMES):
        raise typer.BadParameter(f"no fault {', '.join(sorted(unknown))}", param_hint="--only")
    chosen = [fault() for fault in FAULTS if not only or fault.name in only]
    plan = Plan(
        rate=rate,
        population=population,
        seconds_each=seconds_each,
        num_kills=kills,
        budget_ms=budget_ms,
        seed=seed,
    )
    with (
        explained(),
        recording("faults", "faults", folder, budget_ms) as (folder, recorder),
        tempfile.TemporaryDirectory(prefix="mfalcon-faults-") as files,
    ):
        verdicts = asyncio.run(run(chosen, plan, Path(files), recorder, say))
    Console().print(table(verdicts))
    say(f"recorded in {folder}")
    if any(verdict.failures for verdict in verdicts):
        raise typer.Exit(FAILED)
    if not {each.name for each in verdicts} <= {each.name for each in verdicts if each.is_judged}:
        raise typer.Exit(NOT_JUDGED)


def table(verdicts: Sequence[Verdict]) -> Table:
    made = Table("fault", "expectation", "seen", "verdict", title="faults", title_justify="left")
    for verdict in verdicts:
        made.add_row(verdict.name, verdict.expectation, verdict.seen, verdict.word)
    return made
