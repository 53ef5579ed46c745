"""Where a run is recorded, and what it says it was.

Owns the options' defaults. Never writes more than the run's head.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from loadtests.cli.output import fail
from loadtests.place import commit, machine
from loadtests.record import Recorder, RecordError, Run

RUNS = Path("runs")

FolderOption = Annotated[
    Path | None, typer.Option(help="where the run is recorded; runs/COMMAND-TIME")
]


def begin(
    title: str, name: str, folder: Path | None, budget_ms: float | None
) -> tuple[Path, Recorder]:
    """A run in `folder`, or in a new one. Ends the command if there is a run already."""
    folder = folder or RUNS / time.strftime(f"{name}-%Y%m%d-%H%M%S")
    run = Run(
        title=title,
        command=shlex.join(["python", "-m", "loadtests", *sys.argv[1:]]),
        began=time.time(),
        budget_ms=budget_ms,
        machine=machine(),
        commit=commit(),
    )
    try:
        return folder, Recorder.begin(folder, run)
    except RecordError as error:
        fail(str(error), code=2)
