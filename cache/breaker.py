"""Owns the decision whether a server that keeps failing is asked at all. Never does I/O.

Closed, everybody may ask. Open, nobody may, for a pause. Then half open: one may, the probe, and
its outcome closes the breaker or opens it for a longer pause.
"""

import random
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

NUM_FAILURES: Final = 5
"""In a row, without an answer between. One lost connection or one slow reply is no outage; and
until it opens, an outage costs this many requests a timeout each."""

FIRST_PAUSE_S: Final = 0.25
"""About as long as a server takes to restart: a short outage costs little more than itself."""

MAX_PAUSE_S: Final = 1.0
"""Pauses double up to here: the server is found again this long after it is back, at the latest,
and costs one request in this time a timeout until then."""


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """For one server and one event loop.

    `on_change` is told the state before and after. `jitter` draws from 0 to 1: replicas that lost
    the server together must not all come back at once.
    """

    def __init__(
        self,
        on_change: Callable[[BreakerState, BreakerState], None] = lambda _before, _after: None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._on_change, self._clock, self._jitter = on_change, clock, jitter
        self._state = BreakerState.CLOSED
        self._term = 0
        self._num_failures = 0
        self._pause_s = 0.0
        self._open_until_s = 0.0

    @property
    def state(self) -> BreakerState:
        return self._state

    def admit(self) -> int | None:
        """A ticket for one attempt, to be reported; None if the server is not to be asked now."""
        if self._state is BreakerState.OPEN and self._clock() >= self._open_until_s:
            self._enter(BreakerState.HALF_OPEN)
            return self._term
        return self._term if self._state is BreakerState.CLOSED else None

    def report(self, ticket: int, works: bool | None) -> None:
        """What an attempt found; None if it was given up and says nothing about the server.

        An attempt that began before the state last changed no longer counts.
        """
        if ticket != self._term:
            return
        if works:
            self._num_failures = 0
            if self._state is BreakerState.HALF_OPEN:
                self._enter(BreakerState.CLOSED)
        elif self._state is BreakerState.HALF_OPEN:
            # After a probe that was given up, the next request is the probe.
            self._open(0.0 if works is None else min(2 * self._pause_s, MAX_PAUSE_S))
        elif works is False:
            self._num_failures += 1
            if self._num_failures >= NUM_FAILURES:
                self._open(FIRST_PAUSE_S)

    def _open(self, pause_s: float) -> None:
        self._pause_s = pause_s or self._pause_s
        self._open_until_s = self._clock() + pause_s * (0.5 + self._jitter() / 2)
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        before, self._state = self._state, state
        self._term += 1
        self._num_failures = 0
        self._on_change(before, state)
