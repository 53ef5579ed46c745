"""`python -m loadtests replay`: a real log against a service that is already running.

Owns the options and what is printed. Never sends anything itself.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from loadtests.catalogue import Catalogue
from loadtests.cli.options import (
    DEFAULT_HOST,
    FolderOption,
    HostOption,
    MaybeBudgetOption,
    Output,
    OutputOption,
    RemoteOption,
    SeedOption,
    SloOption,
    checked_host,
)
from loadtests.cli.output import conclude, explained, say
from loadtests.cli.recording import recording
from loadtests.record import Mark, Recorder
from loadtests.replay.client import Client
from loadtests.replay.log import Log
from loadtests.replay.offline import evaluate
from loadtests.replay.outcome import Outcome
from loadtests.replay.player import Pace, Player
from loadtests.replay.result import Result
from loadtests.slo import DEFAULT, load
from loadtests.watch import watching


@dataclass(frozen=True, slots=True)
class Options:
    """How a log is played."""

    last: int
    pace: Pace
    budget_ms: float | None


def replay(
    data: Annotated[Path, typer.Option(help="ml-1m.zip, as grouplens.org gives it")],
    host: HostOption = DEFAULT_HOST,
    users: Annotated[int, typer.Option(min=1, help="users of the log, chosen by the seed")] = 400,
    last: Annotated[int, typer.Option(min=1, help="events of each that are played")] = 5,
    seed: SeedOption = 0,
    speed_up: Annotated[
        float | None, typer.Option(min=1, help="times as fast as the log; as fast as answered")
    ] = None,
    users_at_once: Annotated[int, typer.Option(min=1, help="users asked for at once")] = 8,
    budget_ms: MaybeBudgetOption = None,
    offline: Annotated[
        Path | None,
        typer.Option(help="the checkpoint that is served: HR@10 must be that of its evaluation"),
    ] = None,
    folder: FolderOption = None,
    slo: SloOption = DEFAULT,
    output: OutputOption = Output.TABLE,
    allow_remote: RemoteOption = False,
) -> None:
    """Ask before each of the last events of each user, tell it after, and count the hits."""
    host = checked_host(host, allow_remote=allow_remote)
    options = Options(last, Pace(speed_up=speed_up, users_at_once=users_at_once), budget_ms)
    with explained():
        bounds = load(slo)
        log = Log.read(data).of(users, seed)
        catalogue = Catalogue.fetch(host)
        title = f"replay of {data.name}, {len(log.users)} users"
        with recording(title, "replay", folder, budget_ms) as (folder, recorder):
            outcomes = asyncio.run(_played(host, catalogue, recorder, log, options))
        found = None if offline is None else evaluate(offline, data, log.users, last)
    result = Result.of(outcomes, fingerprint=catalogue.fingerprint, offline=found)
    title = f"{title} at {host}"
    conclude(folder, bounds, title, output, also=result, problem=result.problem())


async def _played(
    host: str, catalogue: Catalogue, recorder: Recorder, log: Log, options: Options
) -> list[Outcome]:
    """
    Raises:
        PlayError: the service does not take events.
    """
    steps = log.steps(options.last)
    outcomes: list[Outcome] = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    began_s = time.perf_counter()
    client = Client(host, recorder, budget_ms=options.budget_ms, began_s=began_s)
    player = Player(client, catalogue, log, run_id=token_hex(4))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("replay", total=len(steps))

        def played(outcome: Outcome) -> None:
            outcomes.append(outcome)
            progress.advance(bar)

        async with client, watching(host, recorder, began_s):
            try:
                await player.tell_past(options.last, options.pace.users_at_once)
                recorder.mark(Mark(at_s=0, until_s=client.now_s, name="histories told"))
                await player.play(steps, options.pace, played)
            except ExceptionGroup as group:
                raise group.exceptions[0] from group
    if player.num_told_again:
        say(
            f"{player.num_told_again} histories were told again, as they were not held any more: "
            "the service's store is too small for so many users"
        )
    return outcomes
