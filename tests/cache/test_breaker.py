"""The breaker: what opens it, how long it pauses, and that one probe decides."""

from hypothesis import given
from hypothesis import strategies as st

from cache.breaker import FIRST_PAUSE_S, MAX_PAUSE_S, NUM_FAILURES, Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class Bench:
    """A breaker whose time stands still, and what it told."""

    def __init__(self, jitter: float = 1.0) -> None:
        self.now_s = 1000.0
        self.changes: list[tuple[BreakerState, BreakerState]] = []
        self.breaker = Breaker(
            lambda *change: self.changes.append(change), lambda: self.now_s, lambda: jitter
        )

    def attempt(self, works: bool | None) -> bool:
        """Whether it was admitted."""
        ticket = self.breaker.admit()
        if ticket is None:
            return False
        self.breaker.report(ticket, works)
        return True

    def open(self) -> None:
        for _ in range(NUM_FAILURES):
            assert self.attempt(False)
        assert self.breaker.state is OPEN


def test_it_opens_after_failures_in_a_row() -> None:
    bench = Bench()
    for _ in range(3):
        for _ in range(NUM_FAILURES - 1):
            assert bench.attempt(False)
        assert bench.attempt(True)
    assert bench.changes == []
    bench.open()
    assert bench.changes == [(CLOSED, OPEN)]
    assert not bench.attempt(True)


def test_attempts_given_up_say_nothing() -> None:
    bench = Bench()
    for _ in range(NUM_FAILURES - 1):
        bench.attempt(False)
    for _ in range(3 * NUM_FAILURES):
        assert bench.attempt(None)
    assert bench.breaker.state is CLOSED
    bench.attempt(False)
    assert bench.breaker.state is OPEN


def test_one_probe_at_a_time_closes_it() -> None:
    bench = Bench()
    bench.open()
    bench.now_s += FIRST_PAUSE_S
    ticket = bench.breaker.admit()
    assert ticket is not None
    assert bench.breaker.state is HALF_OPEN
    assert bench.breaker.admit() is None
    bench.breaker.report(ticket, True)
    assert bench.changes == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]
    for _ in range(NUM_FAILURES - 1):
        assert bench.attempt(False)
    assert bench.breaker.state is CLOSED


def test_pauses_double_to_a_bound_and_begin_anew() -> None:
    bench = Bench()
    for _ in range(2):
        bench.open()
        pause_s = FIRST_PAUSE_S
        for _ in range(10):
            bench.now_s += pause_s - 0.001
            assert not bench.attempt(True)
            bench.now_s += 0.001
            assert bench.attempt(False)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
        assert pause_s == MAX_PAUSE_S
        bench.now_s += MAX_PAUSE_S
        assert bench.attempt(True)
        assert bench.breaker.state is CLOSED


def test_a_probe_given_up_leaves_the_next_request_to_probe() -> None:
    bench = Bench()
    bench.open()
    bench.now_s += FIRST_PAUSE_S
    for _ in range(3):
        assert bench.attempt(None)
        assert bench.breaker.state is OPEN
    assert bench.attempt(False)
    # The pause that follows is the second, not the third or a new first one.
    bench.now_s += 2 * FIRST_PAUSE_S - 0.001
    assert not bench.attempt(True)
    bench.now_s += 0.001
    assert bench.attempt(True)


def test_jitter_shortens_pauses_by_half_at_most() -> None:
    for jitter, share in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
        bench = Bench(jitter)
        bench.open()
        bench.now_s += share * FIRST_PAUSE_S - 0.001
        assert not bench.attempt(True)
        bench.now_s += 0.002
        assert bench.attempt(True)


def test_attempts_from_before_a_change_do_not_count() -> None:
    bench = Bench()
    early = [bench.breaker.admit() for _ in range(3)]
    bench.open()
    bench.now_s += FIRST_PAUSE_S
    probe = bench.breaker.admit()
    assert probe is not None
    for ticket, works in zip(early, (True, False, None), strict=True):
        assert ticket is not None
        bench.breaker.report(ticket, works)
        assert bench.breaker.state is HALF_OPEN
    bench.breaker.report(probe, True)
    assert bench.breaker.state is CLOSED


@given(
    steps=st.lists(st.tuples(st.floats(0, 10), st.sampled_from([True, False, None])), max_size=200),
    jitter=st.floats(0, 1),
)
def test_whatever_happens_it_is_asked_again(
    steps: list[tuple[float, bool | None]], jitter: float
) -> None:
    bench = Bench(jitter)
    for wait_s, works in steps:
        bench.now_s += wait_s
        bench.attempt(works)
    assert all(before is not after for before, after in bench.changes)
    assert all(
        earlier[1] is later[0]
        for earlier, later in zip(bench.changes, bench.changes[1:], strict=False)
    )
    bench.now_s += MAX_PAUSE_S
    assert bench.attempt(True)
    assert bench.breaker.state is CLOSED
