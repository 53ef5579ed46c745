"""The Locust user; also runs on its own: `locust -f loadtests/locustfile.py`.

Owns one request's way: take a turn, send it, read the answer, give the turn back.
Never decides what a request contains (traffic) or how figures are computed (summary).

Locust is closed-loop: a driver sends its next request only after the last answer, so a stall
delays requests instead of queueing them, and the high percentiles are a lower bound.
"""

import logging
import sys
from argparse import ArgumentParser
from secrets import token_hex
from typing import ClassVar

from locust import FastHttpUser, between, events, task
from locust.env import Environment
from locust.exception import StopUser
from rich.console import Console

from loadtests.catalogue import Catalogue
from loadtests.summary import Answer, AnswerError, Recorder
from loadtests.target import TargetError, check_target
from loadtests.traffic import RETURNING, Traffic

# Longer than any deadline of the service: a request is answered or failed, never lost.
REQUEST_TIMEOUT_S = 10.0

logger = logging.getLogger(__name__)


class ReturningUser(FastHttpUser):
    """A driver: acts for one simulated user after another. Set `traffic` and `recorder` first."""

    wait_time = between(0.01, 0.1)
    network_timeout = REQUEST_TIMEOUT_S
    connection_timeout = REQUEST_TIMEOUT_S

    traffic: ClassVar[Traffic]
    recorder: ClassVar[Recorder]

    def on_stop(self) -> None:
        self.client.client.close()  # Locust leaves it to the garbage collector

    @task
    def recommend(self) -> None:
        visit = self.traffic.begin(RETURNING)
        if visit is None:
            raise StopUser
        accepted = False
        try:
            accepted = self._send(dict(visit.body))
        finally:
            self.traffic.end(visit, accepted=accepted)

    def _send(self, body: dict[str, object]) -> bool:
        # A redirect counts as a failure: following one could lead off the loopback interface.
        with self.client.post(
            "/recommend", json=body, catch_response=True, allow_redirects=False
        ) as response:
            try:
                error = response.request_meta["exception"]
                if error is not None and response.status_code in (0, 200):
                    # Of a timeout, the client says only that its (no) retries are used up.
                    cause = getattr(error, "original", None) or error
                    raise AnswerError(f"no whole answer: {type(cause).__name__}")
                answer = Answer.parse(response.status_code, response.content)
            except AnswerError as failure:
                self.recorder.failed(str(failure))
                response.failure(str(failure))
                return False
            self.recorder.answered(response.request_meta["response_time"], answer)
            response.success()
            return True


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--population", type=int, default=200, help="simulated users")
    parser.add_argument("--seed", type=int, default=0, help="seed of the traffic")
    parser.add_argument("--allow-remote", action="store_true", help="accept any --host")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: object) -> None:
    """Under plain `locust`: learn the catalogue and start counting, or end the process."""
    options = environment.parsed_options
    assert options is not None
    try:
        host = check_target(environment.host or "", allow_remote=options.allow_remote)
        catalogue = Catalogue.fetch(host)
    except TargetError as error:
        logger.error("%s", error)
        # Locust only logs a listener's exceptions; this one must keep the drivers from starting.
        sys.exit(1)
    ReturningUser.traffic = Traffic(
        catalogue, population=options.population, seed=options.seed, run_id=token_hex(4)
    )
    ReturningUser.recorder = Recorder()


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def report(environment: Environment, **_: object) -> None:
    """Under plain `locust`: print the figures, and fail the process when they do not pass.

    Locust cuts off what is under way when it stops; those requests are in no figure.
    """
    if not hasattr(ReturningUser, "recorder"):
        logger.error("ended before the service had told its items; give a longer --run-time")
        environment.process_exit_code = 1
        return
    summary = ReturningUser.recorder.summary()
    Console().print(summary.table(f"load at {environment.host}"))
    if problem := summary.problem():
        logger.error("%s", problem)
        environment.process_exit_code = 1
