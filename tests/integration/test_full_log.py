"""A log that takes nothing costs lines, not answers."""

from pathlib import Path

import pytest

from tests.integration.process import ServiceProcess
from tests.service.builders import make_events

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_service_with_a_full_log_starts_and_answers(folder: Path) -> None:
    flags = ["--checkpoint", str(folder), "--store", "memory", "--warmup-timeout-s", "0"]
    service = ServiceProcess(flags, FULL)
    try:
        service.wait_until_ready()
        answer = service.recommend(events=make_events(3))
        assert answer["complete"]
        refused = service.post("/recommend", {"user_id": "u", "num_results": 0})
        assert refused.status_code == 422
    finally:
        service.remove()
