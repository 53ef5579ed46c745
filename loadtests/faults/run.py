"""Owns a run: one fault after the other under load, then the scores, then `mfalcon verify`."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

from loadtests.faults.fault import Fault
from loadtests.faults.network_faults import HalfOpen, Lost, Slow
from loadtests.faults.product import Given, Product
from loadtests.faults.recheck import Checked, Recheck
from loadtests.faults.redis_faults import Corrupted, Flushed, Full, Killed, Paused
from loadtests.faults.service_faults import ClockStepped, LogFull, ServiceKilled
from loadtests.faults.stage import DEVICE_CACHE_BYTES, Plan, Stage, staged
from loadtests.faults.verdict import WATCHED_S, Verdict, judge
from loadtests.record import Mark, Recorder
from loadtests.servers import Service

FAULTS: Final[tuple[type[Fault], ...]] = (
    Killed,
    Paused,
    Slow,
    Lost,
    HalfOpen,
    Full,
    Flushed,
    Corrupted,
    LogFull,
    ClockStepped,
    ServiceKilled,
)

WARM_S: Final = 5.0
RECHECKED_PER_FAULT: Final = 200
"""About all there are, of the usual length and rate."""
VERIFIED_USERS: Final = 5
ATTEMPTS: Final = 3
"""Of a fault that could not be judged, since others took the processor meanwhile."""
_VERIFY_S: Final = 300.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Done:
    """A fault that was done, and the answers given meanwhile."""

    verdict: Verdict
    given: list[Given]
    product: Product


async def run(
    faults: Sequence[Fault], plan: Plan, folder: Path, recorder: Recorder, say: Say
) -> list[Verdict]:
    """What became of each fault, and of the service at last. `folder` is for the servers' files.

    A fault has a verdict for each time that it was done.

    Raises:
        TargetError: a server did not start.
    """
    began_s = time.perf_counter()
    flags = ("--device-cache-bytes", str(DEVICE_CACHE_BYTES))
    verdicts: list[Verdict] = []
    async with staged(plan, folder, recorder, began_s, flags) as stage:
        done = []
        for fault in faults:
            if reason := fault.missing():
                verdicts.append(Verdict(fault.name, fault.expectation, reason, [], is_skipped=True))
                continue
            for _ in range(ATTEMPTS):
                say(f"{fault.name} ...")
                done.append(await _do(fault, stage))
                if done[-1].verdict.is_judged:
                    break
        await asyncio.to_thread(stage.service.kill)  # nobody is to take cores from what follows
        say("the answers once more, from a service without a store; and mfalcon verify ...")
        scored, equal = await asyncio.gather(
            asyncio.to_thread(_with_scores, stage, done),
            asyncio.to_thread(verified, stage.redis.port),
        )
    return [*verdicts, *scored, equal]


async def _do(fault: Fault, stage: Stage) -> _Done:
    await fault.prepare(stage)
    async with stage.load() as product:
        await asyncio.sleep(WARM_S)
        course = await fault.run(stage, product)
        await asyncio.sleep(max(0.0, course.ended_s + WATCHED_S - stage.now_s()))
    await fault.restore(stage)
    stage.recorder.mark(
        Mark(at_s=course.began_s, until_s=course.ended_s, name=fault.name, is_fault=True)
    )
    until_s = course.ended_s + WATCHED_S
    given = [each for each in product.given if course.began_s <= each.at_s < until_s]
    others = stage.others.most(course.began_s, until_s)
    verdict = judge(fault, course, stage.samples, stage.plan.budget_ms, others)
    return _Done(verdict, given, product)


def _with_scores(stage: Stage, done: Sequence[_Done]) -> list[Verdict]:
    """The verdicts, with what a second service says to a part of the answers."""
    second = Service(stage.folder, "second", ("--store", "memory", "--threads", "1"))
    second.spawn("--max-budget-ms", "60000", "--warmup-timeout-s", "0")
    recheck = Recheck(second.host)
    try:
        second.wait_until_ready()
        return [_scored(each, recheck, Random(stage.plan.seed)) for each in done]
    finally:
        recheck.close()
        second.kill()


def _scored(done: _Done, recheck: Recheck, draw: Random) -> Verdict:
    checked, verdict = Checked(), done.verdict
    for given in draw.sample(done.given, min(RECHECKED_PER_FAULT, len(done.given))):
        recheck.check(given, done.product.history(given), checked)
    failures = list(verdict.failures)
    if checked.num_wrong:
        failures.append(f"{checked.num_wrong} answers have wrong scores")
    elif not checked.num_right:
        failures.append("no answer could be scored again")
    return replace(verdict, seen=f"{verdict.seen}, {checked.told}", failures=failures)


def verified(redis_port: int) -> Verdict:
    """By `mfalcon verify`, on the Redis to which all this was done. Blocks."""
    command = [sys.executable, "-m", "service", "verify", "--output", "json"]
    command += ["--users", str(VERIFIED_USERS), "--store", f"redis://127.0.0.1:{redis_port}/0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_VERIFY_S)
    try:
        found = json.loads(ended.stdout)
        seen = f"largest difference {found['max_abs_diff']:.1e}, allowed {found['tolerance']:.0e}"
        failures = [] if found["passed"] and not ended.returncode else ["not equal to the oracle"]
    except (ValueError, KeyError):
        seen, failures = "no result", [f"exit code {ended.returncode}: {ended.stderr[-200:]}"]
    return Verdict("mfalcon verify", "equal to the oracle", seen, failures)
