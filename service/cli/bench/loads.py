"""Owns the options of benchmarks that put services under load, and how their figures are shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.output import progress

if TYPE_CHECKING:
    from service.benchmark.load.figures import Figures
    from service.benchmark.timing import OnTurn

ShapeName = Annotated[
    Literal["mlwhiz", "ml-1m", "mid", "kuairand-small"], typer.Option(help="sizes of the model")
]
Users = Annotated[int, typer.Option(min=16, help="returning users")]
Seconds = Annotated[float, typer.Option(min=0.1, help="seconds of each turn")]
Store = Annotated[str, typer.Option(help="of user states, as `mfalcon serve --store`")]
EngineThreads = Annotated[
    int, typer.Option(min=0, help="CPU threads of mfalcon's engine; 0 takes every core")
]

COLUMNS = ["whole/s", "in time/s", "share", "p50 ms", "p99 ms", "cut", "failed"]
"""Answers a second with every candidate scored, those of them within the budget and their share of
the requests, percentiles of whole answers, answers cut short by the budget, and failures."""


@contextmanager
def turns_shown() -> "Iterator[OnTurn]":
    """A bar that follows the turns."""
    with progress() as bar:
        task = bar.add_task("bench", total=None)
        yield lambda name, done, total: bar.update(
            task, completed=done, total=total, description=name
        )


def cells(found: "Figures") -> list[str]:
    """The columns of one load."""
    return [
        f"{found.whole_per_s:.1f}",
        f"{found.within_per_s:.1f}",
        f"{found.within_share:.0%}",
        *("-" if ms is None else f"{ms:.1f}" for ms in (found.p50_ms, found.p99_ms)),
        str(found.num_cut),
        str(found.num_failed),
    ]
