"""`python -m loadtests gate`: whether a recorded run kept its objectives.

Owns the options. Never computes a figure.
"""

from pathlib import Path
from typing import Annotated

import typer

from loadtests.cli.output import fail, tell
from loadtests.record import Record, RecordError
from loadtests.slo import DEFAULT, SloError, judge, load

SloOption = Annotated[Path, typer.Option(help="bounds to keep, a TOML file")]


def gate(
    run: Annotated[Path, typer.Argument(help="folder of a recorded run")], slo: SloOption = DEFAULT
) -> None:
    """Say of each bound whether the run kept it; exits with 1 when one was not."""
    try:
        verdicts = judge(Record.load(run), load(slo))
    except (RecordError, SloError) as error:
        fail(str(error), code=2)
    tell(verdicts)
