"""Owns what is done to the service's process, its log and its clock."""

import asyncio
import shutil
import subprocess
import time
from pathlib import Path
from random import Random
from typing import Final

import httpx

from loadtests.faults.fault import Course, Fault
from loadtests.faults.product import Product
from loadtests.faults.stage import Stage
from loadtests.openloop import ANSWER_S
from loadtests.target import TargetError

FULL_DEVICE: Final = Path("/dev/full")
_STEPS_S: Final = (3600, -7200, 86_400, 0)
_LEAST_STEP_S: Final = 1.5
"""Longer than faketime keeps what it has read."""
_BETWEEN_KILLS_S: Final = (0.2, 0.8)
_WRITE_COMES_S: Final = 5.0
_ASK_AGAIN_S: Final = 0.1


class LogFull(Fault):
    """Started with a log that takes nothing."""

    name = "log-full"

    def missing(self) -> str | None:
        return None if FULL_DEVICE.exists() else f"there is no {FULL_DEVICE} here"

    async def prepare(self, stage: Stage) -> None:
        await stage.start_service(log=FULL_DEVICE)

    async def restore(self, stage: Stage) -> None:
        await stage.start_service()


class ClockStepped(Fault):
    """By hours and back, under libfaketime; times between two moments stay what they are."""

    name = "clock-stepped"

    def missing(self) -> str | None:
        if shutil.which("faketime") is None:
            return "needs faketime on PATH (Debian: apt-get install faketime)"
        return None

    async def prepare(self, stage: Stage) -> None:
        self._steps = stage.folder / "clock"
        self._steps.write_text("+0\n")
        variables = {
            "LD_PRELOAD": await asyncio.to_thread(_preload),
            "FAKETIME_TIMESTAMP_FILE": str(self._steps),
            # Otherwise the file is read whenever the time is asked for: a hundred times slower.
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            # With it threads that wait for a while spin instead.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }
        await stage.start_service(variables=variables)

    async def run(self, stage: Stage, product: Product) -> Course:
        del product
        began_s = stage.now_s()
        lasts_s = max(_LEAST_STEP_S, stage.plan.seconds_each / len(_STEPS_S))
        for step_s in _STEPS_S:
            self._steps.write_text(f"{step_s:+d}\n")
            await asyncio.sleep(lasts_s)
        return Course(began_s, stage.now_s())

    async def restore(self, stage: Stage) -> None:
        await stage.start_service()


def _preload() -> str:
    """Where faketime has its library, which it would put before the program's own."""
    shown = subprocess.run(
        ["faketime", "-f", "+0", "env"], capture_output=True, text=True, check=True
    )
    lines = (line.partition("=") for line in shown.stdout.splitlines())
    return next(value for name, _, value in lines if name == "LD_PRELOAD")


class ServiceKilled(Fault):
    """kill -9 as a write is on its way: its half has come to Redis, or all of it and no answer.

    It leaves a service that never warmed up, so it is the last fault.
    """

    name = "service-killed"
    expectation = "no 5xx while it is up, right scores, no acknowledged event lost"
    with_p99 = False  # the first requests of a process pay for its shapes

    async def run(self, stage: Stage, product: Product) -> Course:
        course, draw = Course(stage.now_s(), 0.0), Random(stage.plan.seed)
        for number in range(stage.plan.num_kills):
            trap = stage.proxy.trap(is_whole=bool(number % 2))
            try:
                await asyncio.wait_for(asyncio.shield(trap), _WRITE_COMES_S)
            except TimeoutError:
                course.failures.append("no write came to be cut off; raise the rate")
            began_s = stage.now_s()
            await stage.start_service("--warmup-timeout-s", "0")
            course.outages.append((began_s, stage.now_s()))
            await asyncio.sleep(draw.uniform(*_BETWEEN_KILLS_S))
        course.ended_s = stage.now_s()
        lost, num_users = await asyncio.to_thread(lost_events, stage.service.host, product)
        course.findings.append(
            f"{len(course.outages)} kills, {lost} events of {num_users} users lost"
        )
        if lost:
            course.failures.append(f"{lost} acknowledged events are lost")
        return course


def lost_events(host: str, product: Product) -> tuple[int, int]:
    """How many acknowledged events are not held any more, and of how many users. Blocks."""
    lost, acknowledged = 0, product.acknowledged()
    with httpx.Client(base_url=host, trust_env=False, timeout=ANSWER_S) as client:
        for user_id, expected in acknowledged.items():
            lost += max(0, expected - _num_held(client, user_id))
    return lost, len(acknowledged)


def _num_held(client: httpx.Client, user_id: str) -> int:
    """Raises TargetError if the service can not tell for a while."""
    give_up_s = time.monotonic() + ANSWER_S
    while True:
        answer = client.get(f"/users/{user_id}/state")
        if answer.status_code == httpx.codes.OK:
            state = answer.json()
            return int(state["anchor"] + state["num_events"])
        if answer.status_code == httpx.codes.NOT_FOUND:
            return 0
        if time.monotonic() > give_up_s:
            raise TargetError(f"/users/.../state answered {answer.status_code}: {answer.text}")
        time.sleep(_ASK_AGAIN_S)
