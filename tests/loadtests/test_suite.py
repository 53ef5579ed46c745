"""Every part of the suite runs, on real servers, and whoever fails is told."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from loadtests import suite
from loadtests.cli.faults import NAMES
from loadtests.exits import NOT_JUDGED
from loadtests.record import Record
from loadtests.shapes import Shape
from loadtests.suite import FULL, SHORT, Part, Suite, replay_of, run_all
from tests.redis_server import NO_SERVER, own_server


def test_parts_run_one_after_another_and_are_drawn(tmp_path: Path) -> None:
    if own_server() is None:
        pytest.skip(NO_SERVER)
    slo = tmp_path / "slo.toml"
    slo.write_text("[all]\np99_ms = '<= 0'\n")
    parts = (
        Part("open", ("--rate", "10", "--seconds", "1", "--budget-ms", "900", "--slo", str(slo))),
        Part("locust", ("--users", "2", "--seconds", "2")),
    )
    told: list[Part] = []
    (tmp_path / "files").mkdir()
    codes = run_all(Suite(parts), tmp_path / "runs", tmp_path / "files", told.append)
    assert told == list(parts)
    assert codes["open"] == 1  # nothing is answered in no time
    assert codes["report"] == 0
    for part in parts:
        assert Record.load(tmp_path / "runs" / part.name).samples
    assert "open loop" in (tmp_path / "runs" / "report" / "report.html").read_text()


def test_what_could_not_be_judged_is_run_once_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, given = iter([NOT_JUDGED, 0, NOT_JUDGED, NOT_JUDGED, 0]), list[str]()

    def command(*arguments: str) -> int:
        given.append(Path(arguments[-1]).name)
        return next(codes)

    monkeypatch.setattr(suite, "_command", command)
    monkeypatch.setattr(suite, "Redis", Mock())
    monkeypatch.setattr(suite, "Service", Mock())
    parts = Suite((Part("open", ()), Part("soak", (), has_servers=True)))
    found = run_all(parts, tmp_path, tmp_path, lambda _: None)
    assert found == {"open": 0, "soak": NOT_JUDGED, "report": 0}
    assert given == ["open", "open-again", "soak", "soak-again", "report"]


def test_a_suite_has_every_shape_and_every_fault() -> None:
    names = [part.name for part in FULL.parts]
    assert len(names) == len(set(names))
    assert {f"locust-{shape}" for shape in Shape} < set(names)
    assert [part.options for part in FULL.parts if part.command == "faults"] == [()]  # that is all
    assert NAMES
    assert {part.command for part in SHORT.parts} == {"locust", "open"}


def test_a_replay_is_compared_with_the_checkpoint_that_is_served() -> None:
    replay = replay_of(Path("ml-1m.zip"))
    (part,) = replay.parts
    _, served = replay.flags
    assert part.options[-2:] == ("--offline", served)
    assert Path(served, "config.json").exists()
