"""`python -m loadtests soak`: half of what the service takes, for long; does it grow?

Owns the options and the bounds. The servers are started for it.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtests.cli.open import progress
from loadtests.cli.output import fail, tell
from loadtests.cli.recording import FolderOption, begin
from loadtests.record import Record, Recorder
from loadtests.slo import Bound, judge
from loadtests.soak import Plan
from loadtests.soak import soak as run
from loadtests.summary import Summary
from loadtests.target import TargetError

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
    budget_ms: Annotated[float, typer.Option(min=1, help="of each request")] = 50,
    population: Annotated[int, typer.Option(min=1, help="people in all")] = 200,
    seed: Annotated[int, typer.Option(help="seed of traffic and arrivals")] = 0,
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
    folder, recorder = begin("soak", "soak", folder, budget_ms)
    try:
        _run(plan, recorder)
    except TargetError as error:
        fail(str(error))
    finally:
        recorder.close()
    record = Record.load(folder)
    Console().print(Summary.of(record).table(f"soak, {folder}"))
    tell(judge(record, BOUNDS))


def _run(plan: Plan, recorder: Recorder) -> None:
    with tempfile.TemporaryDirectory(prefix="mfalcon-soak-") as files:
        asyncio.run(run(plan, Path(files), recorder, progress))
