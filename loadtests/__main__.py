"""`python -m loadtests`: load tests of a running service, and what is made of their records.

Owns Locust's options, what is printed and the exit code: 0 when the run passed, 1 when no service
answered or too many requests failed, 2 for wrong options. Never drives load itself (drive).
"""

import json
from dataclasses import asdict
from enum import StrEnum
from secrets import token_hex
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from loadtests.cli.report import report
from loadtests.target import TargetError, check_target


class Output(StrEnum):
    """How the figures are printed."""

    TABLE = "table"
    JSON = "json"


def locust(
    host: Annotated[str, typer.Option(help="URL of the service")] = "http://127.0.0.1:8000",
    users: Annotated[int, typer.Option(min=1, help="users sending at the same time")] = 16,
    population: Annotated[int, typer.Option(min=1, help="users in all")] = 200,
    seconds: Annotated[int, typer.Option(min=1, help="how long")] = 30,
    seed: Annotated[int, typer.Option(help="seed of the traffic")] = 0,
    output: Annotated[Output, typer.Option(help="for people or programs")] = Output.TABLE,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="accept hosts other than this machine")
    ] = False,
) -> None:
    """Send returning users' requests to a running service and print what it answered."""
    try:
        host = check_target(host, allow_remote=allow_remote)
    except TargetError as error:
        raise typer.BadParameter(str(error), param_hint="--host") from None
    if population < users:
        raise typer.BadParameter("must be at least --users", param_hint="--population")

    # Imported here, not above: Locust patches the process, which a refused option must not.
    from loadtests.drive import Plan, drive

    run_id = token_hex(4)
    plan = Plan(
        host=host, users=users, population=population, seconds=seconds, seed=seed, run_id=run_id
    )
    try:
        summary = drive(plan)
    except TargetError as error:
        _fail(str(error))
    if output is Output.JSON:
        # Not through the console, which would wrap the line at the terminal's width.
        typer.echo(json.dumps(asdict(plan) | asdict(summary)))
    else:
        title = f"{users} of {population} users for {seconds} s at {host}"
        Console().print(summary.table(title))
    if problem := summary.problem():
        _fail(problem)


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1)


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(locust)
app.command()(report)


if __name__ == "__main__":
    app()
