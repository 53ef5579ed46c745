"""A run is read back as it was written, as far as it came."""

from pathlib import Path

import pytest

from loadtests.record import Mark, Reading, Record, Recorder, RecordError, Run, Sample

RUN = Run(title="a run", command="make load", began=1_700_000_000.0, budget_ms=50)


def make_sample(at_s: float) -> Sample:
    return Sample(
        at_s=at_s,
        waited_ms=0.5,
        latency_ms=7.25,
        kind="recommend",
        user="returning",
        status=200,
        complete=True,
        cache_status="hit",
        tier="device",
        reused_events=199,
        encoded_events=1,
        timing_ms={"queue": 0.1, "total": 6.0},
    )


def test_a_run_of_two_processes_is_read_in_order_of_time(tmp_path: Path) -> None:
    mark = Mark(at_s=1, until_s=2, name="pause", is_fault=True)
    reading = Reading(
        at_s=1, process="service", resident_bytes=1 << 20, num_files=9, num_threads=3, cpu_s=0.5
    )
    first, second = Recorder.begin(tmp_path, RUN), Recorder(tmp_path, "1")
    first.sample(make_sample(2))
    second.sample(make_sample(1))
    first.mark(mark)
    first.reading(reading)
    first.close()
    second.close()
    record = Record.load(tmp_path)
    assert record == Record(
        run=RUN, samples=[make_sample(1), make_sample(2)], marks=[mark], readings=[reading]
    )


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    recorder = Recorder.begin(tmp_path, RUN)
    recorder.sample(make_sample(1))
    recorder.sample(make_sample(2))
    recorder.close()
    path = tmp_path / "samples-0.jsonl"
    path.write_text(path.read_text()[:-9])
    assert Record.load(tmp_path).samples == [make_sample(1)]


def test_a_folder_takes_one_run(tmp_path: Path) -> None:
    Recorder.begin(tmp_path, RUN).close()
    with pytest.raises(RecordError, match="another folder"):
        Recorder.begin(tmp_path, RUN)


@pytest.mark.parametrize("line", ["not json", "[1]", '{"at_s": 1}', '{"at_s": 1, "other": 2}'])
def test_a_line_that_is_no_sample_is_named(tmp_path: Path, line: str) -> None:
    Recorder.begin(tmp_path, RUN).close()
    (tmp_path / "samples-0.jsonl").write_text(line + "\n")
    with pytest.raises(RecordError, match=r"samples-0\.jsonl:1"):
        Record.load(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"run\.json"):
        Record.load(tmp_path)
