"""`python -m loadtests report`: the page and the pictures of runs that were recorded.

Owns the options and what is printed. Never draws.
"""

from pathlib import Path
from typing import Annotated

import typer

from loadtests.cli.output import explained, fail
from loadtests.exits import UNUSABLE


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
        fail(f"{error}; pip install 'mfalcon[load]'", code=UNUSABLE)
    with explained():
        contest = None if recompute is None else contests.load_contest(recompute)
        found = measured.load(runs)
    try:
        written = page.write(found, contest, out)
    except OSError as error:
        fail(str(error), code=UNUSABLE)
    typer.echo(f"{written[0]} and {len(written) - 1} pictures beside it")
