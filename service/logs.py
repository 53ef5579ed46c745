"""Owns how the service logs: structured, to standard error, never with user data."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import structlog

_WARN_EVERY_S: Final = 30.0


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
