from math import inf

import pytest

from loadtests.stability import Stability, recovery_s
from tests.loadtests.records import MIB, fault, make_reading, make_record, make_sample


def test_growth_counts_once_a_run_has_settled() -> None:
    readings = [
        make_reading(second, resident_bytes=(100 if second < 600 else 200) * MIB)
        for second in range(3600)
    ]
    readings += [make_reading(second, process="redis", num_files=second) for second in range(3600)]
    found = Stability.of(make_record(readings=readings))
    assert found.memory_growth == 0
    assert found.files_growth == found.threads_growth == 0


def test_steady_growth_is_seen() -> None:
    readings = [
        make_reading(second, resident_bytes=100 * MIB + second * MIB // 60, num_files=second)
        for second in range(3601)
    ]
    found = Stability.of(make_record(readings=readings))
    assert found.memory_growth == pytest.approx((157.5 - 112.5) / 112.5, abs=0.01)
    assert found.files_growth == pytest.approx(2700, rel=0.02)


def test_nothing_is_told_of_what_was_not_recorded() -> None:
    assert Stability.of(make_record([make_sample()])) == Stability(
        memory_growth=None, files_growth=None, threads_growth=None, recovery_s=None
    )


def test_recovery_ends_with_the_last_answer_that_is_not_whole() -> None:
    samples = [make_sample(second / 10) for second in range(100)]
    samples[30:35] = [make_sample(second / 10, complete=False) for second in range(30, 35)]
    record = make_record(samples, marks=[fault(2, 3)])
    assert recovery_s(record, record.marks[0]) == pytest.approx(0.4)
    early = make_record(samples[:30], marks=[fault(1, 2)])
    assert recovery_s(early, early.marks[0]) == 0


def test_what_is_slow_to_recover_counts_and_what_never_does_is_infinite() -> None:
    samples = [make_sample(second / 10, complete=second >= 60) for second in range(100)]
    marks = [fault(2, 3), fault(7, 8)]
    assert Stability.of(make_record(samples, marks=marks)).recovery_s == pytest.approx(2.9)
    marks = [fault(2, 3), fault(5, 8)]
    assert Stability.of(make_record(samples, marks=marks)).recovery_s == inf
