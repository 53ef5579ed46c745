"""All the load tests there are, one after another, and the page of what they showed.

Owns what is run, in which order, and against which servers. Never drives load itself: each is a
command of its own, as anybody could give it.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.servers import Redis, Service
from loadtests.shapes import Shape

BUDGET: Final = ("--budget-ms", "250")
"""Long enough for a machine whose cores the load shares."""


@dataclass(frozen=True, slots=True)
class Part:
    """A command with its options. `has_servers`: it starts servers of its own."""

    name: str
    options: tuple[str, ...]
    has_servers: bool = False

    @property
    def command(self) -> str:
        return self.name.partition("-")[0]


SHORT: Final = (
    Part("locust", ("--seconds", "25", *BUDGET)),
    Part("open", ("--seconds", "20", "--rate", "20", *BUDGET)),
)
"""Within a minute."""

FULL: Final = (
    *(Part(f"locust-{shape}", ("--shape", shape, "--seconds", "60", *BUDGET)) for shape in Shape),
    Part("open", ("--seconds", "60", "--rate", "20", *BUDGET)),
    Part("open-ramp", ("--ramp", "--seconds", "8")),
    Part("faults", (), has_servers=True),
    Part("soak", ("--seconds", "300"), has_servers=True),
)


def run_all(
    parts: Sequence[Part], folder: Path, files: Path, on_part: Callable[[Part], None]
) -> list[Part]:
    """Those that failed. Each is recorded in a folder of `folder`, the page is in its `report`.

    Args:
        files: where the servers write.

    Raises:
        TargetError: a server did not start.
    """
    redis = Redis(files)
    store = ("--store", f"redis://127.0.0.1:{redis.port}/0")
    service = Service(files, "service", (*store, "--threads", "1", "--log-format", "json"))
    failed = []
    try:
        redis.start()
        service.spawn()
        service.wait_until_ready()
        for part in parts:
            if part.has_servers:  # nobody is to take cores from them
                service.kill()
            on_part(part)
            host = () if part.has_servers else ("--host", service.host)
            recorded = ("--folder", str(folder / part.name))
            if _command(part.command, *part.options, *host, *recorded):
                failed.append(part)
    finally:
        service.kill()
        redis.kill()
    runs = [str(folder / part.name) for part in parts if (folder / part.name).exists()]
    if _command("report", *runs, "--out", str(folder / "report")):
        failed.append(Part("report", ()))
    return failed


def _command(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-m", "loadtests", *arguments], check=False)
    return done.returncode
