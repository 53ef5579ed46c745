"""`python -m loadtests soak`: half of what the service takes, for long; does it grow?

Owns the options and the bounds. The servers are started for it.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from loadtests.cli.open import progress
from loadtests.cli.options import BudgetOption, FolderOption, PopulationOption, SeedOption
from loadtests.cli.output import conclude, explained
from loadtests.cli.recording import recording
from loadtests.slo import Bound
from loadtests.soak import Plan
from loadtests.soak import soak as run

BOUNDS = [
    Bound("all.failed", "<=", 0.01),
    Bound("run.memory_growth", "<=", 0.01, must_measure=True),
    Bound("run.files_growth", "<=", 0, must_measure=True),
    Bound("run.threads_growth", "<=", 0, must_measure=True),
]


def soak(
    hours: Annotated[float, typer.Option(min=0, help="how long")] = 1.0,
    seconds: Annotated[float | None, typer.Option(min=1, help="how long, instead")] = None,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="of the saturation")] = 0.5,
    budget_ms: BudgetOption = 50,
    population: PopulationOption = 200,
    seed: SeedOption = 0,
    folder: FolderOption = None,
) -> None:
    """Start Redis and the service, find what it takes, and offer it a share of that for long.

    Memory, files and threads are compared once a sixth of the time has passed, in which caches
    fill, and at the end. Exit code 1 if they grew.
    """
    plan = Plan(
        seconds=3600 * hours if seconds is None else seconds,
        share=share,
        budget_ms=budget_ms,
        population=population,
        seed=seed,
    )
    with (
        explained(),
        recording("soak", "soak", folder, budget_ms) as (folder, recorder),
        tempfile.TemporaryDirectory(prefix="mfalcon-soak-") as files,
    ):
        asyncio.run(run(plan, Path(files), recorder, progress))
    conclude(folder, BOUNDS, "soak")
