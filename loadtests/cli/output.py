"""How the subcommands print and end.

Never computes a figure.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

import typer
from rich.console import Console
from rich.table import Table

from loadtests.cli.options import Output
from loadtests.exits import FAILED, NOT_JUDGED, UNUSABLE
from loadtests.record import Record, RecordError
from loadtests.replay.log import LogError
from loadtests.replay.player import PlayError
from loadtests.slo import Bound, SloError, Verdict, judge
from loadtests.summary import Summary
from loadtests.target import TargetError


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
    command when one failed or could not be judged."""
    for verdict in verdicts:
        say(f"{verdict}", style=None if verdict.passed else "red")
    missed = [verdict for verdict in verdicts if not verdict.passed]
    if missed:
        raise typer.Exit(NOT_JUDGED if all(verdict.is_void for verdict in missed) else FAILED)


def say(message: str, *, style: str | None = None) -> None:
    """A line on standard error, as it is."""
    Console(stderr=True).print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, *, code: int = FAILED) -> NoReturn:
    say(f"error: {message}", style="red")
    raise typer.Exit(code)
