"""The Locust users; also runs on its own: `locust -f loadtests/locustfile.py`.

Owns one request's way: take a turn, send it, read the answer, give the turn back, and record it.
Never decides what a request contains (traffic) and never counts (summary).

Locust is closed-loop: a driver sends its next request only after the last answer, so a stall
delays requests instead of queueing them, and the high percentiles are a lower bound. Its own
figures are whole milliseconds below 100 and steps of 10 above; those recorded are as measured.
"""

import logging
import os
import shlex
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar

from locust import FastHttpUser, LoadTestShape, between, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtests import traffic
from loadtests.answer import Answer
from loadtests.catalogue import Catalogue
from loadtests.place import commit, machine
from loadtests.record import Mark, Record, Recorder, RecordError, Run
from loadtests.shapes import Phase, Shape, phases
from loadtests.target import TargetError, check_target, key_headers
from loadtests.traffic import MIX, Traffic, Visit

# Longer than any deadline of the service: a request is answered or failed, never lost.
REQUEST_TIMEOUT_S = 10.0
# Above this Locust itself warns that spawning becomes unreliable.
SPAWN_PER_S = 100

logger = logging.getLogger(__name__)


class Driver(FastHttpUser):
    """Acts for one person after another. What is set on the class here holds for all."""

    abstract = True
    wait_time = between(0.01, 0.1)
    network_timeout = REQUEST_TIMEOUT_S
    connection_timeout = REQUEST_TIMEOUT_S

    user: ClassVar[str]
    traffic: ClassVar[Traffic]
    recorder: ClassVar[Recorder]
    began_s: ClassVar[float]  # the run, of `time.perf_counter`
    headers: ClassVar[dict[str, str]]

    _is_leaving = False

    def stop(self, force: bool = False) -> bool:
        # A driver whose pause just ended is not sending yet, but would be when it is killed.
        self._is_leaving = True
        stopped: bool = super().stop(force)
        return stopped

    def on_stop(self) -> None:
        self.client.client.close()  # Locust leaves it to the garbage collector

    @task
    def visit(self) -> None:
        if self._is_leaving:
            raise StopUser
        visit = self.traffic.begin(self.user)
        if visit is None:
            raise StopUser
        at_s = time.perf_counter() - self.began_s
        accepted = False
        try:
            answer, latency_ms = self._send(visit)
            accepted = answer.accepted
        finally:
            self.traffic.end(visit, accepted=accepted)
        self.recorder.sample(answer.sample(visit, at_s=at_s, waited_ms=0, latency_ms=latency_ms))

    def _send(self, visit: Visit) -> tuple[Answer, float]:
        # A redirect counts as a failure: following one could lead off the loopback interface.
        with self.client.post(
            visit.path,
            json=dict(visit.body),
            headers=self.headers,
            catch_response=True,
            allow_redirects=False,
        ) as response:
            error = response.request_meta["exception"]
            if error is not None and response.status_code in (0, 200):
                # Of a timeout, the client says only that its (no) retries are used up.
                answer = Answer.none(getattr(error, "original", None) or error)
            else:
                answer = Answer.parse(visit.kind, response.status_code, response.content)
            if answer.is_ok:
                response.success()
            else:
                response.failure(f"{answer.status} {answer.code}")
            return answer, response.request_meta["response_time"]


class ReturningUser(Driver):
    user, weight = traffic.RETURNING, round(100 * MIX[traffic.RETURNING])


class NewUser(Driver):
    user, weight = traffic.NEW, round(100 * MIX[traffic.NEW])


class RankerUser(Driver):
    user, weight = traffic.RANKER, round(100 * MIX[traffic.RANKER])


class RetrieverUser(Driver):
    user, weight = traffic.RETRIEVER, round(100 * MIX[traffic.RETRIEVER])


class BulkUser(Driver):
    user, weight = traffic.BULK, round(100 * MIX[traffic.BULK])


class EventOnlyUser(Driver):
    user, weight = traffic.EVENT_ONLY, round(100 * MIX[traffic.EVENT_ONLY])


class ChosenShape(LoadTestShape):
    """That of `--shape`, `--users` at its most, for `--run-time`; each phase becomes a mark."""

    use_common_options = True

    _phase: Phase | None = None
    _at_s = 0.0

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        planned = phases(
            Shape(options.shape), users=options.num_users or 1, seconds=options.run_time or 60
        )
        now_s = self.get_run_time()  # type: ignore[no-untyped-call]
        phase = next((each for each in planned if now_s < each.until_s), None)
        if phase != self._phase:
            self._mark_end()
            self._phase = phase
        return None if phase is None else (phase.users, SPAWN_PER_S)

    def _mark_end(self) -> None:
        """Of the phase before, as far as there was one: Locust may be later than planned."""
        now_s = time.perf_counter() - getattr(Driver, "began_s", time.perf_counter())
        if self._phase is not None:
            name = f"{self._phase.name}: {self._phase.users} users"
            Driver.recorder.mark(Mark(at_s=self._at_s, until_s=now_s, name=name))
        self._at_s = now_s


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: ArgumentParser) -> None:
    folder = time.strftime("runs/locust-%Y%m%d-%H%M%S")
    shapes = [each.value for each in Shape]
    parser.add_argument("--population", type=int, default=200, help="people in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the traffic")
    parser.add_argument("--shape", choices=shapes, default=shapes[0], help="how users change")
    parser.add_argument("--budget-ms", type=float, help="latency budget sent with every request")
    parser.add_argument("--run-folder", default=folder, help="where the run is recorded")
    parser.add_argument("--allow-remote", action="store_true", help="accept any --host")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: object) -> None:
    """Begin the record, and learn the catalogue; or end the process."""
    options, runner = environment.parsed_options, environment.runner
    assert options is not None
    folder = Path(options.run_folder)  # Locust hands options to its workers, texts and numbers only
    try:
        host = check_target(environment.host or "", allow_remote=options.allow_remote)
        catalogue = Catalogue.fetch(host)
        if not isinstance(runner, WorkerRunner):
            _begin(folder, options)
        recorder = Recorder(folder, part=f"{os.getpid()}")
        began = Record.load(folder).run.began
    except (TargetError, RecordError) as error:
        logger.error("%s", error)
        # Locust only logs a listener's exceptions; this one must keep the drivers from starting.
        sys.exit(1)
    Driver.recorder = recorder
    Driver.began_s = time.perf_counter() - (time.time() - began)
    Driver.headers = key_headers()
    if options.budget_ms is not None:
        Driver.headers["X-Request-Timeout-Ms"] = f"{options.budget_ms}"
    if not isinstance(runner, MasterRunner):
        Driver.traffic = _traffic(catalogue, options, runner)


def _begin(folder: Path, options: Any) -> None:
    """A run of this process's own, unless whoever started it has begun one.

    Raises:
        RecordError: requests were recorded there before.
    """
    if not (folder / "run.json").exists():
        run = Run(
            title=f"Locust, {options.shape}, {options.num_users} users",
            command=shlex.join(["locust", *sys.argv[1:]]),
            began=time.time(),
            budget_ms=options.budget_ms,
            machine=machine(),
            commit=commit(),
        )
        Recorder.begin(folder, run).close()
    elif Record.load(folder).samples:
        raise RecordError(f"{folder} holds a run already; name another folder")


def _traffic(catalogue: Catalogue, options: Any, runner: object) -> Traffic:
    """People of this process's own: a person has one turn at a time, and processes can not ask
    each other."""
    share = max(options.processes or 1, 1)
    index = runner.worker_index if isinstance(runner, WorkerRunner) else 0
    return Traffic(
        catalogue,
        population=-(-options.population // share),
        seed=options.seed + index,
        run_id=token_hex(4),
    )


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def finish(**_: object) -> None:
    if hasattr(Driver, "recorder"):
        Driver.recorder.close()
