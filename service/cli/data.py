"""Owns opening `--data` on the command line: a bar while it is fetched, and what it has to say."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from model.errors import InputError
from service.cli.output import note

if TYPE_CHECKING:
    from model.data.interactions import Interactions


def open_interactions(name: str) -> "Interactions":
    """
    Raises:
        DataError: see `model.data.sources.open_data`.
        InputError: the train extra is not installed.
    """
    try:
        from model.data.sources import open_data
    except ModuleNotFoundError as error:
        raise InputError(
            f"--data needs the train extra ({error}): pip install 'mfalcon[train]'"
        ) from error

    columns = TextColumn("fetching {task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, visible=False)

        def fetched(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        data = open_data(name, progress=fetched)
    for found in data.notes:
        note(f"note: {found}")
    return data
