"""The report has a part for everything that was recorded, and none for what was not."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtests.__main__ import app
from loadtests.record import Mark, Record, Recorder, Run, Sample
from loadtests.report.measured import Measured, load, percentile
from loadtests.report.rates import points_of
from tests.loadtests.report.made_up import BUDGET_MS, PHASES, make_run

OF_A_RUN = {"over-time", "stages", "tiers", "rows", "processes", "failures"}
OF_ALL = {"latency", "rate-p99", "goodput", "cached"}
VOID = {"meta", "br", "hr", "img", "link"}


class Checker(HTMLParser):
    """Collects ids and asks whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["report", *map(str, arguments)])
    return done.exit_code, done.output


def pictures(folder: Path) -> set[str]:
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    return {path.stem for path in folder.glob("*.png")}


def figures_of(name: str) -> dict[str, object]:
    return {
        "whole_per_s": 4.0,
        "within_per_s": 3.0 if name == "mfalcon" else 0.0,
        "p50_ms": 20.0 if name == "mfalcon" else None,
        "p99_ms": 40.0 if name == "mfalcon" else None,
    }


def make_contest(path: Path) -> None:
    contest = {
        "figures": {n: {"1 client": figures_of(n)} for n in ("mfalcon", "recompute")},
        "shape": {"num_events": 10, "num_candidates": 5},
        "setting": {"budget_ms": 50},
        "machine": "a machine",
        "commit": "abc",
    }
    path.write_text(json.dumps(contest))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is written of a whole run and a contest."""
    base = tmp_path_factory.mktemp("report")
    make_run(base / "run")
    make_contest(base / "contest.json")
    options = ("--out", base / "out", "--recompute", base / "contest.json")
    code, told = invoke(base / "run", *options)
    assert code == 0, told
    return base / "out"


def test_every_part_is_drawn(folder: Path) -> None:
    assert pictures(folder) == OF_A_RUN | OF_ALL | {"recompute"}


def test_the_page_stands_alone(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == len(OF_A_RUN | OF_ALL) + 1
    assert not re.search(r"<(script|link|img|iframe)|src=|@import", page)
    links = set(re.findall(r'href="(.)', page))
    assert links <= {"#"}
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"(fill|stroke): #", page)  # every colour follows the theme


def test_the_page_is_sound(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    targets = re.findall(r'<a href="#([^"]+)', page)
    assert set(targets) <= set(checker.ids)
    assert page.count("<figcaption>") == page.count("<svg")
    assert "a ramp &lt;with&gt; a fault" in page
    assert "fault: redis paused" in page
    assert "429 overloaded" in page
    assert "abc1234" in page


def test_what_was_not_recorded_is_left_out(tmp_path: Path) -> None:
    """One answer, of a driver that knows nothing more."""
    run = Run(title="little", command="x", began=0.0)
    recorder = Recorder.begin(tmp_path / "run", run)
    sample = Sample(at_s=0.0, waited_ms=0.0, latency_ms=3.0, kind="events", user="u", status=200)
    recorder.sample(sample)
    recorder.close()
    assert invoke(tmp_path / "run", "--out", tmp_path / "out")[0] == 0
    assert pictures(tmp_path / "out") == {"latency", "over-time"}


def test_a_run_without_an_answer_is_reported(tmp_path: Path) -> None:
    recorder = Recorder.begin(tmp_path / "run", Run(title="dead", command="x", began=0.0))
    for at_s in range(3):
        recorder.sample(
            Sample(
                at_s=at_s,
                waited_ms=0,
                latency_ms=1,
                kind="recommend",
                user="u",
                status=0,
                code="ConnectError",
            )
        )
    recorder.close()
    assert invoke(tmp_path / "run", "--out", tmp_path / "out")[0] == 0
    assert pictures(tmp_path / "out") == {"over-time", "failures"}


def test_several_runs_are_drawn_together_and_each(tmp_path: Path) -> None:
    make_run(tmp_path / "first")
    make_run(tmp_path / "second")
    out = tmp_path / "out"
    assert invoke(tmp_path / "first", tmp_path / "second", "--out", out)[0] == 0
    each = {f"{name}-{number}" for name in OF_A_RUN for number in (1, 2)}
    assert pictures(out) == OF_ALL | each
    page = (out / "report.html").read_text()
    assert "(first)" in page
    assert "(second)" in page


def test_a_point_is_what_its_phase_saw(tmp_path: Path) -> None:
    make_run(tmp_path)
    (run,) = load([tmp_path])
    points = points_of(run)
    assert [point.offered_per_s for point in points] == pytest.approx(
        [rate for *_, rate in PHASES], rel=0.1
    )
    assert [point.had_fault for point in points] == [False, True, False]
    last = [s for s in run.samples if s.at_s >= PHASES[-1][0]]
    in_time = [s for s in last if s.status == 200 and s.latency_ms <= BUDGET_MS]
    assert points[-1].in_time_per_s == pytest.approx(len(in_time) / 20)
    ordered = sorted(s.latency_ms for s in last if s.status == 200)
    assert points[-1].p99_ms == ordered[-(len(ordered) // 100) - 1]


def test_late_and_cut_answers_are_told_apart() -> None:
    def sample(latency_ms: float, *, complete: bool, code: str = "") -> Sample:
        return Sample(
            at_s=0.0,
            waited_ms=1.0,
            latency_ms=latency_ms,
            kind="recommend",
            user="u",
            status=200,
            code=code,
            complete=complete,
        )

    run = Run(title="t", command="c", began=0.0, budget_ms=10.0)
    samples = [
        sample(5, complete=True),
        sample(5, complete=False),
        sample(11, complete=True),
        sample(5, complete=False, code="overloaded"),  # of a batch, a part
    ]
    record = Record(run=run, samples=samples, marks=[], readings=[])
    measured = Measured("t", record)
    assert measured.answered.tolist() == [True, True, True, False]
    assert measured.in_time.tolist() == [True, True, False, False]
    assert measured.whole.tolist() == [True, False, False, False]
    assert measured.since_sent_ms.tolist() == [4, 4, 10, 4]


def test_percentiles_are_values_that_were_measured(tmp_path: Path) -> None:
    make_run(tmp_path)
    (run,) = load([tmp_path])
    ordered = sorted(run.latency_ms[:200])
    assert percentile(run.latency_ms[:200], 99) == ordered[197]
    assert percentile(run.latency_ms[:0], 99) != percentile(run.latency_ms[:0], 99)


def test_what_can_not_be_reported_is_said(tmp_path: Path) -> None:
    run, contest, out = tmp_path / "run", tmp_path / "contest.json", tmp_path / "out"
    code, told = invoke(run, "--out", out)
    assert (code, "run.json" in told) == (2, True)
    recorder = Recorder.begin(run, Run(title="t", command="c", began=0.0))
    recorder.mark(Mark(at_s=0, until_s=1, name="phase"))
    recorder.close()
    code, told = invoke(run, "--out", out)
    assert (code, "holds no request" in told) == (2, True)
    make_run(tmp_path / "whole")
    contest.write_text("{}")
    code, told = invoke(tmp_path / "whole", "--out", out, "--recompute", contest)
    assert (code, "contest.json" in told) == (2, True)
    assert not out.exists()
