"""What every request may meet is told at once, and then seldom."""

import structlog
from structlog.testing import capture_logs

from service.logs import SeldomWarning


def test_a_warning_is_told_at_once_and_then_every_half_a_minute() -> None:
    times_s = iter([0.0, 0.1, 29.9, 30.0, 59.0, 61.0])
    warn = SeldomWarning(structlog.get_logger(), "mishap", clock=lambda: next(times_s))
    with capture_logs() as told:
        for number in range(6):
            warn(number=number)
    assert told == [
        {"event": "mishap", "log_level": "warning", "number": number} for number in (0, 3, 5)
    ]
