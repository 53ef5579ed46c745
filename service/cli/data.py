"""Owns opening `--data` on the command line: a bar while it is fetched, and what it has to say."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

if TYPE_CHECKING:
    from model.data.interactions import Interactions

EXTRA = "needs the train extra: pip install 'mfalcon[train]'"


def open_interactions(name: str) -> "Interactions":
    """
    Raises:
        DataError: see `model.data.sources.open_data`.
    """
    from model.data.sources import open_data

    columns = TextColumn("fetching {task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, visible=False)

        def fetched(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        data = open_data(name, progress=fetched)
    for note in data.notes:
        complain(f"note: {note}", style="")
    return data


def complain(message: str, *, style: str = "red") -> None:
    """One line on standard error, as it is."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    console.print(message, style=style)
