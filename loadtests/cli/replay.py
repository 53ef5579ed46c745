"""`python -m loadtests replay`: a real log against a service that is already running.

Owns the options and what is printed. Never sends anything itself.
"""

import asyncio
import json
import shlex
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from loadtests.catalogue import Catalogue
from loadtests.cli.gate import SloOption
from loadtests.cli.output import (
    DEFAULT_HOST,
    HostOption,
    Output,
    OutputOption,
    RemoteOption,
    checked_host,
    fail,
    tell,
)
from loadtests.place import commit, machine
from loadtests.record import Record, Recorder, RecordError, Run
from loadtests.replay.client import Client
from loadtests.replay.log import Log, LogError
from loadtests.replay.offline import evaluate
from loadtests.replay.outcome import Outcome
from loadtests.replay.player import Pace, Player, PlayError
from loadtests.replay.result import Result
from loadtests.slo import DEFAULT, SloError, judge, load
from loadtests.summary import Summary
from loadtests.target import TargetError


def replay(
    data: Annotated[Path, typer.Option(help="ml-1m.zip, as grouplens.org gives it")],
    host: HostOption = DEFAULT_HOST,
    users: Annotated[int, typer.Option(min=1, help="users of the log, chosen by the seed")] = 400,
    last: Annotated[int, typer.Option(min=1, help="events of each that are played")] = 5,
    seed: Annotated[int, typer.Option(help="of the choice of users")] = 0,
    speed_up: Annotated[
        float | None, typer.Option(min=1, help="times as fast as the log; as fast as answered")
    ] = None,
    users_at_once: Annotated[int, typer.Option(min=1, help="users asked for at once")] = 8,
    budget_ms: Annotated[
        float | None, typer.Option(min=1, help="latency budget sent with every request")
    ] = None,
    offline: Annotated[
        Path | None,
        typer.Option(help="the checkpoint that is served: HR@10 must be that of its evaluation"),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="where the run is recorded; runs/replay-TIME")
    ] = None,
    slo: SloOption = DEFAULT,
    output: OutputOption = Output.TABLE,
    allow_remote: RemoteOption = False,
) -> None:
    """Ask before each of the last events of each user, tell it after, and count the hits."""
    host = checked_host(host, allow_remote=allow_remote)
    folder = folder or Path("runs") / time.strftime("replay-%Y%m%d-%H%M%S")
    try:
        bounds = load(slo)
        log = Log.read(data).of(users, seed)
        catalogue = Catalogue.fetch(host)
        run = Run(
            title=f"replay of {data.name}, {len(log.users)} users",
            command=shlex.join(["python", "-m", "loadtests", *sys.argv[1:]]),
            began=time.time(),
            budget_ms=budget_ms,
            machine=machine(),
            commit=commit(),
        )
        recorder = Recorder.begin(folder, run)
        try:
            client = Client(host, recorder, budget_ms)
            pace = Pace(speed_up=speed_up, users_at_once=users_at_once)
            outcomes = asyncio.run(_played(client, catalogue, log, last, pace))
        finally:
            recorder.close()
        found = None if offline is None else evaluate(offline, data, log.users, last)
        record = Record.load(folder)
    except (SloError, LogError) as error:
        fail(str(error), code=2)
    except (TargetError, RecordError, PlayError) as error:
        fail(str(error))
    result = Result.of(outcomes, found)
    _print(result, Summary.of(record), f"{run.title} at {host}, {folder}", output)
    if problem := result.problem():
        fail(problem)
    tell(judge(record, bounds))


async def _played(
    client: Client, catalogue: Catalogue, log: Log, last: int, pace: Pace
) -> list[Outcome]:
    """
    Raises:
        PlayError: the service does not take events.
    """
    steps = log.steps(last)
    outcomes: list[Outcome] = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    player = Player(client, catalogue, run_id=token_hex(4))
    async with client:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("replay", total=len(steps))

            def played(outcome: Outcome) -> None:
                outcomes.append(outcome)
                progress.advance(bar)

            try:
                await player.tell_past(log, last, pace.users_at_once)
                await player.play(steps, pace, played)
            except ExceptionGroup as group:
                raise group.exceptions[0] from group
    return outcomes


def _print(result: Result, summary: Summary, title: str, output: Output) -> None:
    if output is Output.JSON:
        # Not through the console, which would wrap the line at the terminal's width.
        typer.echo(json.dumps(result.as_json() | summary.as_json()))
        return
    console = Console()
    console.print(summary.table(title))
    console.print(result.table())
