"""`python -m loadtests locust`: Locust against a service that is already running.

Owns the options, Locust's process and what is printed of its record. Never imports Locust, which
replaces the standard library's blocking calls in the process that does.
"""

import asyncio
import sys
import time
from asyncio.subprocess import DEVNULL
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from loadtests.catalogue import Catalogue
from loadtests.cli.options import (
    DEFAULT_HOST,
    FolderOption,
    HostOption,
    MaybeBudgetOption,
    Output,
    OutputOption,
    PopulationOption,
    RemoteOption,
    SeedOption,
    SloOption,
    checked_host,
)
from loadtests.cli.output import conclude, explained
from loadtests.cli.recording import recording
from loadtests.port import free_port
from loadtests.record import Recorder
from loadtests.shapes import Shape
from loadtests.slo import DEFAULT, load
from loadtests.traffic import BULK, BULK_PEOPLE, EVENT_ONLY, NEW, RANKER, RETRIEVER, RETURNING
from loadtests.watch import watching

ROOT = Path(__file__).parents[2]
# The longest request may spend its timeout twice, connecting and answering, and some more.
DRAIN_S = 21
LOOK_EVERY_S = 0.2


class Kind(StrEnum):
    """Kinds of users, by the name of their traffic."""

    RETURNING = RETURNING
    NEW = NEW
    RANKER = RANKER
    RETRIEVER = RETRIEVER
    BULK = BULK
    EVENT_ONLY = EVENT_ONLY

    @property
    def class_name(self) -> str:
        return "".join(word.capitalize() for word in self.value.split("-")) + "User"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What Locust is asked to do."""

    host: str
    users: int
    population: int
    seconds: int
    seed: int
    shape: Shape
    processes: int
    budget_ms: float | None
    kinds: list[Kind]
    folder: Path

    def command(self) -> list[str]:
        """Locust's own command line; the address was checked before."""
        options: dict[str, Any] = {
            "host": self.host,
            "users": self.users,
            "population": self.population,
            "run-time": f"{self.seconds}s",
            "seed": self.seed,
            "shape": self.shape.value,
            "run-folder": self.folder.absolute(),
            "stop-timeout": DRAIN_S,
            "exit-code-on-error": 0,  # the gate decides
        }
        if self.budget_ms is not None:
            options["budget-ms"] = self.budget_ms
        if self.processes > 1:
            options |= {
                "processes": self.processes,
                "master-bind-host": "127.0.0.1",
                "master-bind-port": (port := free_port()),
                "master-port": port,
            }
        flags = [word for name, value in options.items() for word in (f"--{name}", f"{value}")]
        classes = [kind.class_name for kind in self.kinds]
        program = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py"]
        # Its tables are rounded: without its log, only what went wrong is told.
        switches = ["--headless", "--only-summary", "--skip-log-setup", "--allow-remote"]
        return [*program, *switches, *flags, *classes]


def locust(
    host: HostOption = DEFAULT_HOST,
    users: Annotated[int, typer.Option(min=1, help="users sending at the same time")] = 16,
    population: PopulationOption = 200,
    seconds: Annotated[int, typer.Option(min=1, help="how long")] = 30,
    seed: SeedOption = 0,
    shape: Annotated[Shape, typer.Option(help="how the number of users changes")] = Shape.STEADY,
    processes: Annotated[int, typer.Option(min=1, help="processes that send")] = 1,
    budget_ms: MaybeBudgetOption = None,
    kind: Annotated[
        list[Kind] | None, typer.Option(help="kinds of users, repeat for several; all")
    ] = None,
    folder: FolderOption = None,
    slo: SloOption = DEFAULT,
    output: OutputOption = Output.TABLE,
    allow_remote: RemoteOption = False,
) -> None:
    """Let simulated users wait for their answers, record them all, and judge the run."""
    host = checked_host(host, allow_remote=allow_remote)
    # A bulk user acts for several people at once.
    if population < (least := BULK_PEOPLE[1] * users):
        raise typer.BadParameter(f"must be at least {least}", param_hint="--population")
    title = f"Locust, {shape}, {users} users"
    with explained():
        bounds = load(slo)
        Catalogue.fetch(host)
        with recording(title, "locust", folder, budget_ms) as (folder, recorder):
            plan = Plan(
                host=host,
                users=users,
                population=population,
                seconds=seconds,
                seed=seed,
                shape=shape,
                processes=processes,
                budget_ms=budget_ms,
                kinds=kind or list(Kind),
                folder=folder,
            )
            code = asyncio.run(_driven(plan, recorder))
    problem = f"Locust ended with exit code {code}" if code else None
    conclude(folder, bounds, f"{title} at {host}", output, problem=problem)


async def _driven(plan: Plan, recorder: Recorder) -> int:
    """Locust's exit code, once it has ended; a bar on a terminal's standard error meanwhile."""
    began_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*plan.command(), cwd=ROOT, stdout=DEVNULL)
    ending = asyncio.create_task(process.wait())
    try:
        async with watching(plan.host, recorder, began_s):
            with Progress(console=Console(stderr=True), transient=True) as progress:
                bar = progress.add_task("load", total=plan.seconds)
                while not ending.done():
                    progress.update(bar, completed=time.perf_counter() - began_s)
                    await asyncio.wait((ending,), timeout=LOOK_EVERY_S)
        return ending.result()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
