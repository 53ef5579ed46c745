"""The options that several subcommands have.

Owns their names and what they accept; each subcommand its own defaults. Never runs anything.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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
FolderOption = Annotated[Path | None, typer.Option(help="where it is recorded; runs/COMMAND-TIME")]
SloOption = Annotated[Path, typer.Option(help="bounds to keep, a TOML file")]
PopulationOption = Annotated[int, typer.Option(min=1, help="people in all")]
SeedOption = Annotated[int, typer.Option(help="of all that is drawn")]
BudgetOption = Annotated[float, typer.Option(min=1, help="of each request, and for p99")]
MaybeBudgetOption = Annotated[
    float | None, typer.Option("--budget-ms", min=1, help="sent with every request")
]
DEFAULT_HOST = "http://127.0.0.1:8000"


def checked_host(host: str, *, allow_remote: bool) -> str:
    """The host as an option; one that must not be loaded is a wrong option."""
    try:
        return check_target(host, allow_remote=allow_remote)
    except TargetError as error:
        raise typer.BadParameter(str(error), param_hint="--host") from None
