"""`python -m loadtests suite`: servers, load tests, and a report, in one command.

Owns the options and the exit code.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from loadtests.cli.options import FolderOption
from loadtests.cli.output import explained, fail, say
from loadtests.cli.recording import new_folder
from loadtests.exits import NOT_JUDGED
from loadtests.suite import FULL, SHORT, Part, replay_of, run_all


def suite(
    is_full: Annotated[
        bool, typer.Option("--full", help="all shapes, faults and a soak: some 20 minutes")
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="instead: play this ml-1m.zip"),
    ] = None,
    folder: FolderOption = None,
) -> None:
    """Start Redis and the service, load them for a minute, and draw what was seen.

    Exit code 1 if a bound of `loadtests/slo.toml`, or an expectation of a fault, does not hold; 3
    if all do but for what could not be judged.
    """
    if is_full and replay:
        raise typer.BadParameter("is no part of --full", param_hint="--replay")
    chosen = replay_of(replay) if replay else FULL if is_full else SHORT
    folder = folder or new_folder("replay" if replay else "load")

    def tell(part: Part) -> None:
        number = chosen.parts.index(part) + 1
        words = " ".join(("loadtests", part.command, *part.options))
        say(f"[{number}/{len(chosen.parts)}] {words}")

    with explained(), tempfile.TemporaryDirectory(prefix="mfalcon-load-") as files:
        codes = run_all(chosen, folder, Path(files), tell)
    say(f"see {folder / 'report' / 'report.html'}")
    if failed := [name for name, code in codes.items() if code not in (0, NOT_JUDGED)]:
        fail(f"did not pass: {', '.join(failed)}")
    if doubtful := [name for name, code in codes.items() if code == NOT_JUDGED]:
        fail(f"could not be judged: {', '.join(doubtful)}", code=NOT_JUDGED)
