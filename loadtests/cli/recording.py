"""Where a run is recorded, and what it says it was.

Owns the folder's default. Never writes more than the run's head.
"""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.place import commit, machine
from loadtests.record import Recorder, Run

RUNS = Path("runs")


def new_folder(name: str) -> Path:
    return RUNS / time.strftime(f"{name}-%Y%m%d-%H%M%S")


@contextmanager
def recording(
    title: str, name: str, folder: Path | None, budget_ms: float | None
) -> Iterator[tuple[Path, Recorder]]:
    """A run in `folder`, or in a new one, until the end of the block.

    Raises:
        RecordError: there is a run already.
    """
    folder = folder or new_folder(name)
    run = Run(
        title=title,
        command=shlex.join(["python", "-m", "loadtests", *sys.argv[1:]]),
        began=time.time(),
        budget_ms=budget_ms,
        machine=machine(),
        commit=commit(),
    )
    recorder = Recorder.begin(folder, run)
    try:
        yield folder, recorder
    finally:
        recorder.close()
