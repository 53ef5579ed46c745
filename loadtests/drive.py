"""Runs Locust in this process, without its command line or web page.

Owns a run's beginning, end and progress bar. Never reads options and never prints figures.

Importing this module imports Locust, which replaces the standard library's blocking calls by
gevent's: import it late, and before anything that imports `ssl`.
"""

from dataclasses import dataclass

import gevent
from locust.env import Environment
from rich.console import Console
from rich.progress import Progress

from loadtests.catalogue import Catalogue
from loadtests.locustfile import REQUEST_TIMEOUT_S, ReturningUser
from loadtests.summary import Recorder, Summary
from loadtests.traffic import Traffic

# Above this Locust itself warns that spawning becomes unreliable.
MAX_SPAWN_PER_S = 100
# The longest request, which may spend its timeout twice (connecting, answering), and some more.
DRAIN_S = 2 * REQUEST_TIMEOUT_S + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run: `users` drivers act for `population` simulated users for `seconds`."""

    host: str
    users: int
    population: int
    seconds: int
    seed: int
    run_id: str


def drive(plan: Plan) -> Summary:
    """Run the plan to its end; raises TargetError when no service answers.

    Requests in flight at the end are waited for: each is answered or counted as failed.
    """
    catalogue = Catalogue.fetch(plan.host)

    class PlannedUser(ReturningUser):
        traffic = Traffic(catalogue, population=plan.population, seed=plan.seed, run_id=plan.run_id)
        recorder = Recorder()

    runner = Environment(user_classes=[PlannedUser], host=plan.host).create_local_runner()
    runner.start(plan.users, spawn_rate=min(plan.users, MAX_SPAWN_PER_S))
    _wait(plan.seconds)
    # Locust's own stop kills drivers in the middle of a request, whatever its stop_timeout:
    # one whose pause just ended is already sending when it is hit.
    PlannedUser.traffic.close()
    runner.user_greenlets.join(timeout=DRAIN_S)
    summary = PlannedUser.recorder.summary()
    runner.quit()
    return summary


def _wait(seconds: int) -> None:
    """Let the drivers run, with a bar on a terminal's stderr."""
    console = Console(stderr=True)
    # No refresh thread: it would compete with the drivers' clocks.
    progress = Progress(
        console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    )
    with progress:
        bar = progress.add_task("load", total=seconds)
        for _ in range(seconds):
            gevent.sleep(1)
            progress.update(bar, advance=1, refresh=True)
