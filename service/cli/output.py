"""Owns how commands print: a table for people, or one JSON object for programs."""

import json
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Output = Annotated[
    Literal["table", "json"], typer.Option("--output", help="table for people, json for programs")
]

_FILE_WIDTH = 160


def progress() -> Progress:
    """A bar on standard error, so that standard output stays the result."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def complain(message: str) -> None:
    """What went wrong, one line on standard error."""
    _plain(stderr=True).print(message, style="red")


def note(message: str) -> None:
    """What a person wants to know and a program does not, on standard error."""
    _plain(stderr=True).print(message)


def say(message: str, *, style: str | None = None) -> None:
    """A line of the result, on standard output."""
    _plain().print(message, style=style)


def print_json(result: dict[str, Any]) -> None:
    say(json.dumps(result))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """As wide as the terminal, or as it needs where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(table(title, columns, rows))


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    made = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        made.add_row(*row)
    return made


def print_report(parts: Sequence[Table | str]) -> None:
    """Tables, and lines between them."""
    for part in parts:
        _plain().print(part)


def write_report(parts: Sequence[Table | str], path: Path) -> None:
    """The same in a file, as wide as it needs.

    Raises:
        OSError: `path` can not be written.
    """
    with path.open("w", encoding="utf-8") as file:
        console = Console(file=file, width=_FILE_WIDTH, highlight=False, markup=False)
        for part in parts:
            console.print(part)


def _plain(*, stderr: bool = False) -> Console:
    """Prints text as it is: paths may hold brackets, lines may be longer than the terminal."""
    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False)


def machine_line() -> str:
    """`where` for people."""
    found = where()
    return f"{found['machine']}, torch {found['torch']}, commit {found['commit']}"


def where() -> dict[str, Any]:
    """The machine and the code that a figure was made with."""
    import torch

    return {
        "machine": f"{_processor()}, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
