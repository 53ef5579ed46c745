"""Which jobs run together: within the bounds, and without breaking a deadline that holds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batch import Batch, Bounds, Pace, Work
from service.deadline import Deadline
from tests.service.builders import pace_of

NOW_S = 100.0
WIDE = Bounds(encode_rows=10**9, num_rows=10**9)
SMALL = Work(1, 50)
ROW_S = 1e-3


def at_pace(bounds: Bounds = WIDE) -> Batch:
    """A batch whose rows are known to take a millisecond each."""
    return Batch(bounds, pace_of(ROW_S, ROW_S), NOW_S)


def in_ms(milliseconds: float) -> Deadline:
    return Deadline(NOW_S + milliseconds / 1000)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2000)), min_size=1, max_size=30),
    st.integers(1, 600),
    st.integers(1, 4000),
)
def test_a_batch_keeps_its_bounds_and_the_first_is_always_in(
    jobs: list[tuple[int, int]], encode_rows: int, num_rows: int
) -> None:
    batch = Batch(Bounds(encode_rows, num_rows), Pace(), NOW_S)
    works = [Work(*job) for job in jobs]
    taken = [work for work in works if batch.admits(work, Deadline(math.inf))]
    assert taken[0] is works[0]
    if len(taken) > 1:
        assert sum(work.encode_rows for work in taken) <= encode_rows
        assert sum(work.num_rows for work in taken) <= num_rows


def test_jobs_that_cost_little_are_many_but_not_without_end() -> None:
    """Each has its calls, which the others wait for."""
    batch = at_pace(Bounds(encode_rows=512, num_rows=4096))
    taken = [batch.admits(Work(1, 1), None) for _ in range(100)]
    assert 8 <= sum(taken) <= 16


def test_company_is_refused_where_it_would_break_a_deadline() -> None:
    both_ms = 2 * SMALL.num_rows * ROW_S * 1000
    for late_ms, is_taken in ((1, True), (-1, False)):
        batch = at_pace()
        assert batch.admits(SMALL, in_ms(both_ms + late_ms))
        assert batch.admits(SMALL, in_ms(10_000)) is is_taken


def test_a_deadline_that_can_not_hold_keeps_nobody_out() -> None:
    batch = at_pace()
    assert batch.admits(SMALL, in_ms(1))
    assert batch.admits(SMALL, in_ms(10_000))
    # Its own deadline is the last one's own affair: alone, later, it would miss it as well.
    assert batch.admits(SMALL, in_ms(2))


def test_the_services_own_work_has_no_deadline_to_break() -> None:
    batch = at_pace()
    assert all(batch.admits(Work(1000, 0), None) for _ in range(100))


def test_the_pace_follows_a_machine_that_changes() -> None:
    pace = Pace()
    for row_s in (1e-3, 1e-5):
        for _ in range(100):
            pace.encoded(500, 500 * row_s)
            pace.scored(500, 250 * row_s)
        assert pace.seconds(Work(100, 0)) == pytest.approx(132 * row_s, rel=0.01)
        assert pace.candidate_s == pytest.approx(row_s / 2, rel=0.01)


def test_calls_do_not_wash_out_what_a_long_pass_told_of_its_rows() -> None:
    pace = pace_of(ROW_S, ROW_S)
    for _ in range(10):
        pace.encoded(33, 33 * 10 * ROW_S)
    assert pace.seconds(Work(1000, 0)) < 1.1 * 1032 * ROW_S


@given(st.floats(0, 10), st.integers(0, 1000))
def test_the_events_that_can_be_paid_are_as_many_as_fit(seconds: float, count: int) -> None:
    pace = pace_of(2e-4, 1e-4)
    num_events = pace.num_events(seconds, count)
    if num_events >= 0:
        assert pace.seconds(Work(num_events, count)) <= seconds * (1 + 1e-9)
        assert pace.seconds(Work(num_events + 2, count)) > seconds
