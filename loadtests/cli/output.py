"""How the subcommands print and end.

Owns exit codes: 0 when all is well, 1 when a run or a bound failed, 2 for what can not be used as
it was given, 3 when nothing failed and something could not be judged.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import typer
from rich.console import Console
from rich.table import Table

from loadtests.cli.options import Output
from loadtests.record import Record, RecordError
from loadtests.replay.log import LogError
from loadtests.replay.player import PlayError
from loadtests.slo import Bound, SloError, Verdict, judge
from loadtests.summary import Summary
from loadtests.target import TargetError

FAILED: Final = 1
UNUSABLE: Final = 2
NOT_JUDGED: Final = 3


class Shown(Protocol):
    """What a command has to show beside a run's summary."""

    def as_json(self) -> dict[str, Any]: ...

    def table(self) -> Table: ...


@contextmanager
def explained() -> Iterator[None]:
    """What people can put right ends the command with its message."""
    try:
        yield
    except (SloError, LogError, RecordError) as error:
        fail(str(error), code=UNUSABLE)
    except (TargetError, PlayError) as error:
        fail(str(error))


def conclude(
    folder: Path,
    bounds: Sequence[Bound],
    title: str,
    output: Output = Output.TABLE,
    *,
    also: Shown | None = None,
    problem: str | None = None,
) -> None:
    """Print what a run showed and how it keeps its bounds; a problem or a broken one ends it."""
    record = Record.load(folder)
    summary = Summary.of(record)
    if output is Output.JSON:
        facts = {"folder": str(folder)} | (also.as_json() if also else {})
        # Not through the console, which would wrap the line at the terminal's width.
        typer.echo(json.dumps(facts | summary.as_json()))
    else:
        console = Console()
        console.print(summary.table(f"{title}, {folder}"))
        if also:
            console.print(also.table())
    if problem:
        fail(problem)
    tell(judge(record, bounds))


def tell(verdicts: Sequence[Verdict]) -> None:
    """A line for each, on standard error, so that standard output stays the result; ends the
    command when one failed."""
    for verdict in verdicts:
        say(f"{verdict}", style=None if verdict.passed else "red")
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(FAILED)


def say(message: str, *, style: str | None = None) -> None:
    """A line on standard error, as it is."""
    Console(stderr=True).print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, *, code: int = FAILED) -> NoReturn:
    say(f"error: {message}", style="red")
    raise typer.Exit(code)
