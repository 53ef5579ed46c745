"""`python -m loadtests gate`: whether a recorded run kept its objectives.

Owns the options. Never computes a figure.
"""

from pathlib import Path
from typing import Annotated

import typer

from loadtests.cli.options import SloOption
from loadtests.cli.output import explained, tell
from loadtests.record import Record
from loadtests.slo import DEFAULT, judge, load


def gate(
    run: Annotated[Path, typer.Argument(help="folder of a recorded run")], slo: SloOption = DEFAULT
) -> None:
    """Say of each bound whether the run kept it; exits with 1 when one was not."""
    with explained():
        verdicts = judge(Record.load(run), load(slo))
    tell(verdicts)
