"""`python -m loadtests suite`: servers, load tests, and a report, in one command.

Owns the options and the exit code.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtests.cli.output import fail
from loadtests.cli.recording import RUNS
from loadtests.suite import FULL, SHORT, Part, run_all
from loadtests.target import TargetError


def suite(
    is_full: Annotated[
        bool, typer.Option("--full", help="all shapes, faults and a soak: some 20 minutes")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="where all of it is recorded; runs/load-TIME")
    ] = None,
) -> None:
    """Start Redis and the service, load them for a minute, and draw what was seen.

    Exit code 1 if a bound of `loadtests/slo.toml`, or an expectation of a fault, does not hold.
    """
    folder = folder or RUNS / time.strftime("load-%Y%m%d-%H%M%S")
    parts = FULL if is_full else SHORT
    console = Console(stderr=True)

    def tell(part: Part) -> None:
        number = parts.index(part) + 1
        words = " ".join(("loadtests", part.command, *part.options))
        console.print(f"[{number}/{len(parts)}] {words}", markup=False, highlight=False)

    try:
        with tempfile.TemporaryDirectory(prefix="mfalcon-load-") as files:
            failed = run_all(parts, folder, Path(files), tell)
    except TargetError as error:
        fail(str(error))
    console.print(f"see {folder / 'report' / 'report.html'}", markup=False, highlight=False)
    if failed:
        fail(f"did not pass: {', '.join(part.name for part in failed)}")
