"""All the load tests there are, one after another, and the page of what they showed.

Owns what is run, in which order, and against which servers. Never drives load itself: each is a
command of its own, as anybody could give it.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.exits import NOT_JUDGED
from loadtests.servers import UNBOUNDED, USUAL_MEMORY, Redis, Service
from loadtests.shapes import Shape

BUDGET: Final = ("--budget-ms", "250")
"""Long enough for a machine whose cores the load shares."""

REPLAYED: Final = str(Path(__file__).parents[1] / "checkpoints" / "ml-1m")
REPLAYED_USERS: Final = "2000"


@dataclass(frozen=True, slots=True)
class Part:
    """A command with its options. `has_servers`: it starts servers of its own."""

    name: str
    options: tuple[str, ...]
    has_servers: bool = False

    @property
    def command(self) -> str:
        return self.name.partition("-")[0]


@dataclass(frozen=True, slots=True)
class Suite:
    """Parts, and what the servers are started with that they share."""

    parts: tuple[Part, ...]
    flags: tuple[str, ...] = ()
    redis_memory: str = USUAL_MEMORY


SHORT: Final = Suite(
    (
        Part("locust", ("--seconds", "25", *BUDGET)),
        Part("open", ("--seconds", "20", "--rate", "20", *BUDGET)),
    )
)
"""Within a minute."""

FULL: Final = Suite(
    (
        *(Part(f"locust-{each}", ("--shape", each, "--seconds", "60", *BUDGET)) for each in Shape),
        Part("open", ("--seconds", "60", "--rate", "20", *BUDGET)),
        Part("open-ramp", ("--ramp", "--seconds", "8")),
        Part("faults", (), has_servers=True),
        Part("soak", ("--seconds", "300"), has_servers=True),
    )
)


def replay_of(data: Path) -> Suite:
    """The last event of each user: the checkpoint was not trained on that.

    Nobody's state is dropped: there is one of each user, no longer than a window.
    """
    whose = ("--data", str(data), "--users", REPLAYED_USERS, "--last", "1")
    parts = (Part("replay", (*whose, *BUDGET, "--offline", REPLAYED)),)
    return Suite(parts, ("--checkpoint", REPLAYED), UNBOUNDED)


def run_all(
    suite: Suite, folder: Path, files: Path, on_part: Callable[[Part], None]
) -> dict[str, int]:
    """The exit code of each part, and of the report.

    Each is recorded in a folder of `folder`, the page is in its `report`. One that could not be
    judged is run once again, in a folder of its own; its code is the last.

    Args:
        files: where the servers write.

    Raises:
        TargetError: a server did not start.
    """
    redis = Redis(files, suite.redis_memory)
    always = ("--store", f"redis://127.0.0.1:{redis.port}/0", "--threads", "1")
    service = Service(files, "service", (*always, "--log-format", "json", *suite.flags))
    codes: dict[str, int] = {}
    runs: list[Path] = []
    try:
        redis.start()
        service.spawn()
        service.wait_until_ready()
        for part in suite.parts:
            if part.has_servers:  # nobody is to take cores from them
                service.kill()
            host = () if part.has_servers else ("--host", service.host)
            for name in (part.name, f"{part.name}-again"):
                on_part(part)
                runs.append(folder / name)
                recorded = ("--folder", str(folder / name))
                codes[part.name] = _command(part.command, *part.options, *host, *recorded)
                if codes[part.name] != NOT_JUDGED:
                    break
    finally:
        service.kill()
        redis.kill()
    shown = (str(run) for run in runs if run.exists())
    codes["report"] = _command("report", *shown, "--out", str(folder / "report"))
    return codes


def _command(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-m", "loadtests", *arguments], check=False)
    return done.returncode
