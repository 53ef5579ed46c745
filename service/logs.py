"""Owns how the service logs: structured, to standard error, never with user data."""

import contextlib
import io
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO

import structlog

_WARN_EVERY_S: Final = 30.0

_REFUSED: Final = (429, 503)
_REFUSALS_PER_S: Final = 10
_LINES_PER_S: Final = 200
_ONE_IN: Final = 100
"""Under overload: a log that is written for every refusal costs more than refusing does."""


def configure(log_format: Literal["auto", "json", "console"]) -> None:
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class Unfailing(io.TextIOBase):
    """A stream that loses what it can not write: a full disk under the log is to cost lines, not
    answers."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


class SeldomWarning:
    """A warning of what every request may meet: told at once, then every half a minute at most."""

    def __init__(self, log: Any, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._event, self._clock = log, event, clock
        self._told_s = -_WARN_EVERY_S

    def __call__(self, **facts: object) -> None:
        now_s = self._clock()
        if now_s - self._told_s >= _WARN_EVERY_S:
            self._told_s = now_s
            self._log.warning(self._event, **facts)


class RequestLog:
    """A line a request; beyond so many a second, one in a hundred. Refusals are counted apart. What
    is written next tells how many were left out."""

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._refusals, self._others = _Share(_REFUSALS_PER_S, clock), _Share(_LINES_PER_S, clock)

    def __call__(self, *, request_id: str, route: str, status: int | None, ms: float) -> None:
        """`status` is None if the client went away before there was one."""
        share = self._refusals if status in _REFUSED else self._others
        num_left_out = share.take()
        if num_left_out is None:
            return
        more = {"left_out": num_left_out} if num_left_out else {}
        is_failure = status is not None and status >= 500
        write = self._log.warning if is_failure else self._log.info
        write("request", request_id=request_id, route=route, status=status, ms=ms, **more)


class _Share:
    """Of the lines of a second."""

    def __init__(self, per_s: int, clock: Callable[[], float]) -> None:
        self._per_s, self._clock = per_s, clock
        self._second, self._num_seen, self._num_left_out = -1, 0, 0

    def take(self) -> int | None:
        """How many were left out before this line; None: leave this one out as well."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._num_seen = second, 0
        self._num_seen += 1
        beyond = self._num_seen - self._per_s
        if beyond > 0 and beyond % _ONE_IN:
            self._num_left_out += 1
            return None
        left_out, self._num_left_out = self._num_left_out, 0
        return left_out
