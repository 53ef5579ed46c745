"""Real servers, real faults; how long anything takes is not judged here."""

import time
from pathlib import Path

import pytest

from loadtests.faults import run as faults
from loadtests.faults.fault import Fault
from loadtests.faults.redis_faults import Corrupted
from loadtests.faults.service_faults import ServiceKilled
from loadtests.faults.stage import Plan
from loadtests.record import Record, Recorder, Run
from tests.redis_server import NO_SERVER, own_server

pytestmark = pytest.mark.anyio
PLAN = Plan(rate=15, population=8, seconds_each=1.0, num_kills=2, budget_ms=900, seed=1)
ABOUT_TIME = ("p99", "not back", "but the machine", "too few")


async def test_faults_are_done_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if own_server() is None:
        pytest.skip(NO_SERVER)
    monkeypatch.setattr(faults, "VERIFIED_USERS", 1)
    monkeypatch.setattr(faults, "WARM_S", 2.0)
    chosen: list[Fault] = [Corrupted(), ServiceKilled()]
    recorder = Recorder.begin(tmp_path / "run", Run(title="t", command="c", began=time.time()))
    files, told = tmp_path / "files", list[str]()
    files.mkdir()
    verdicts = await faults.run(chosen, PLAN, files, recorder, told.append)
    recorder.close()

    names = [fault.name for fault in chosen]
    assert [verdict.name for verdict in verdicts] == [*names, "mfalcon verify"]
    for verdict in verdicts:
        wrong = [each for each in verdict.failures if not each.startswith(ABOUT_TIME)]
        assert wrong == [], verdict
        assert not verdict.is_skipped
    assert all("scored again" in verdict.seen for verdict in verdicts[:2])
    assert "2 kills, 0 events" in verdicts[1].seen
    record = Record.load(tmp_path / "run")
    assert [mark.name for mark in record.marks if mark.is_fault] == names
    assert {reading.process for reading in record.readings} == {"service", "redis"}
    assert any(each.cache_status == "hit" for each in record.samples)
    assert told[-1] == "mfalcon verify ..."
