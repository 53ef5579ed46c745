"""`python -m loadtests report`: the page and the pictures of runs that were recorded.

Owns the options and what is printed. Never draws.
"""

from pathlib import Path
from typing import Annotated

import typer

from loadtests.record import RecordError


def report(
    runs: Annotated[list[Path], typer.Argument(help="folders of recorded runs")],
    out: Annotated[Path, typer.Option(help="folder for report.html and the pictures")],
    recompute: Annotated[
        Path | None,
        typer.Option(help="what `mfalcon bench recompute --output json` printed, to be shown too"),
    ] = None,
) -> None:
    """Draw recorded runs: one page that stands alone, and each picture as PNG."""
    try:
        # Imported here: drawing needs libraries that the other commands do without.
        from loadtests.report import measured, page
        from loadtests.report import recompute as contests
    except ModuleNotFoundError as error:
        typer.echo(f"error: {error}; pip install 'mfalcon[load]'", err=True)
        raise typer.Exit(2) from error
    try:
        contest = None if recompute is None else contests.load_contest(recompute)
        written = page.write(measured.load(runs), contest, out)
    except (RecordError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{written[0]} and {len(written) - 1} pictures beside it")
