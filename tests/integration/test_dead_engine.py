"""An engine that dies or hangs under load: liveness says so, and nobody is left waiting."""

import signal
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.integration.load import Load
from tests.integration.process import ANSWER_S, ServiceProcess


@pytest.mark.parametrize(("poison", "word"), [("die", "engine_died"), ("hang", "engine_hangs")])
def test_a_dead_engine_is_told_and_leaves_nobody_waiting(
    folder: Path, tmp_path: Path, poison: str, word: str
) -> None:
    # Once whole, it takes its place at once.
    (tmp_path / "made").write_text(poison)
    service = ServiceProcess(
        ["--checkpoint", str(folder), "--store", "memory", "--engine-stall-s", "2"],
        tmp_path / "service.log",
        program=[sys.executable, "-m", "tests.integration.mortal_service", str(tmp_path / "there")],
    )
    try:
        service.wait_until_ready()
        load = Load(service.port)
        with load.running():
            (tmp_path / "made").rename(tmp_path / "there")
            give_up_s = time.monotonic() + ANSWER_S
            while (live := service.get("/health/live")).status_code == httpx.codes.OK:
                assert time.monotonic() < give_up_s, "the service says that it lives"
            assert (live.status_code, live.json()) == (503, {"status": "dead"})
            assert service.get("/health/ready").status_code == 503
            load.wait_for(20)
        statuses = [status for status, _ in load.answers]
        died = statuses.index(503)
        assert set(statuses[:died]) == {200}
        assert 0 not in statuses, load.answers[-1]
        # An answer that was made before may come a little later.
        assert set(statuses[-10:]) == {503}
        assert load.answers[-1][1]["code"] == "not_ready"
        assert word in service.log
        service.send_signal(signal.SIGTERM)
        assert service.wait() == 0
    finally:
        service.remove()
