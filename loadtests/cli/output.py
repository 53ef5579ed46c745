"""How the subcommands print and end.

Owns exit codes: 0 when all is well, 1 when a run or a bound failed, 2 for wrong options.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from loadtests.slo import Verdict
from loadtests.target import TargetError, check_target


class Output(StrEnum):
    """How the figures are printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option(help="for people or programs")]
HostOption = Annotated[str, typer.Option(help="URL of the service")]
RemoteOption = Annotated[
    bool, typer.Option("--allow-remote", help="accept hosts other than this machine")
]
DEFAULT_HOST = "http://127.0.0.1:8000"


def checked_host(host: str, *, allow_remote: bool) -> str:
    """The host as an option; one that must not be loaded is a wrong option."""
    try:
        return check_target(host, allow_remote=allow_remote)
    except TargetError as error:
        raise typer.BadParameter(str(error), param_hint="--host") from None


def tell(verdicts: Sequence[Verdict]) -> None:
    """A line for each, on standard error, so that standard output stays the result; exits with 1
    when one failed."""
    console = Console(stderr=True)
    for verdict in verdicts:
        style = None if verdict.passed else "red"
        console.print(f"{verdict}", style=style, markup=False, highlight=False, soft_wrap=True)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


def fail(message: str, *, code: int = 1) -> NoReturn:
    Console(stderr=True).print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)
