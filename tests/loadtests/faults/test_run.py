"""Real servers, real faults; how long anything takes is not judged here."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest

from loadtests.faults import run as faults
from loadtests.faults import verdict
from loadtests.faults.fault import Fault
from loadtests.faults.product import Product
from loadtests.faults.redis_faults import Corrupted
from loadtests.faults.service_faults import ServiceKilled
from loadtests.faults.stage import Plan
from loadtests.faults.verdict import Verdict
from loadtests.record import Record, Recorder, Run
from tests.redis_server import NO_SERVER, own_server

pytestmark = pytest.mark.anyio
PLAN = Plan(rate=15, population=8, seconds_each=1.0, num_kills=2, budget_ms=900, seed=1)
ABOUT_TIME = ("p99", "not back", "too few")


async def test_faults_are_done_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if own_server() is None:
        pytest.skip(NO_SERVER)
    monkeypatch.setattr(faults, "VERIFIED_USERS", 1)
    monkeypatch.setattr(faults, "ATTEMPTS", 1)
    monkeypatch.setattr(faults, "WARM_S", 1.0)
    for module in (faults, verdict):
        monkeypatch.setattr(module, "WATCHED_S", 1.0)
    chosen: list[Fault] = [Corrupted(), ServiceKilled()]
    recorder = Recorder.begin(tmp_path / "run", Run(title="t", command="c", began=time.time()))
    files, told = tmp_path / "files", list[str]()
    files.mkdir()
    verdicts = await faults.run(chosen, PLAN, files, recorder, told.append)
    recorder.close()

    names = [fault.name for fault in chosen]
    assert [each.name for each in verdicts] == [*names, "mfalcon verify"]
    for each in verdicts:
        assert [why for why in each.failures if not why.startswith(ABOUT_TIME)] == [], each
        assert not each.is_skipped
    assert all("scored again" in each.seen for each in verdicts[:2])
    assert "2 kills, 0 events" in verdicts[1].seen
    record = Record.load(tmp_path / "run")
    assert [mark.name for mark in record.marks if mark.is_fault] == names
    assert {reading.process for reading in record.readings} == {"service", "redis"}
    assert any(each.cache_status == "hit" for each in record.samples)
    assert told[-1].endswith("mfalcon verify ...")


async def test_what_could_not_be_judged_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it can be, or three times; each has a verdict."""
    doubts = iter([["late"], [], ["late"], ["late"], ["late"]])
    product, stage = Product.__new__(Product), Mock()

    async def do(fault: Fault, _: object) -> faults._Done:
        return faults._Done(Verdict(fault.name, "", "", [], next(doubts)), [], product)

    @asynccontextmanager
    async def staged(*_: object) -> AsyncIterator[object]:
        yield stage

    monkeypatch.setattr(faults, "staged", staged)
    monkeypatch.setattr(faults, "_do", do)
    monkeypatch.setattr(faults, "_with_scores", lambda _, done: [each.verdict for each in done])
    monkeypatch.setattr(faults, "verified", lambda _: Verdict("verify", "", "", []))
    recorder = Recorder(tmp_path)
    verdicts = await faults.run([Corrupted(), ServiceKilled()], PLAN, tmp_path, recorder, print)
    corrupted, killed = Corrupted.name, ServiceKilled.name
    assert [each.name for each in verdicts] == [*[corrupted] * 2, *[killed] * 3, "verify"]
    assert [each.is_judged for each in verdicts] == [False, True, False, False, False, True]
