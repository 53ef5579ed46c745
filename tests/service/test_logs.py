"""What every request may meet is told at once and then seldom; of many lines some are left out."""

from collections.abc import Sequence

import structlog
from structlog.testing import capture_logs

from service.logs import RequestLog, SeldomWarning


def test_a_warning_is_told_at_once_and_then_every_half_a_minute() -> None:
    times_s = iter([0.0, 0.1, 29.9, 30.0, 59.0, 61.0])
    warn = SeldomWarning(structlog.get_logger(), "mishap", clock=lambda: next(times_s))
    with capture_logs() as told:
        for number in range(6):
            warn(number=number)
    assert told == [
        {"event": "mishap", "log_level": "warning", "number": number} for number in (0, 3, 5)
    ]


def lines_of(statuses: Sequence[int | None], times_s: Sequence[float]) -> list[dict[str, object]]:
    clock = iter(times_s)
    tell = RequestLog(structlog.get_logger(), clock=lambda: next(clock))
    with capture_logs() as told:
        for number, status in enumerate(statuses):
            tell(request_id=str(number), route="/r", status=status, ms=1.0)
    return [dict(line) for line in told]


def test_every_request_is_a_line_as_long_as_they_are_few() -> None:
    lines = lines_of([200, 422, 429, None], [0.0, 0.1, 0.2, 0.3])
    assert [line["request_id"] for line in lines] == ["0", "1", "2", "3"]
    assert all(line["log_level"] == "info" and "left_out" not in line for line in lines)


def test_failures_are_warnings() -> None:
    assert [line["log_level"] for line in lines_of([500, 503, 504], [0.0] * 3)] == ["warning"] * 3


def test_of_many_refusals_most_are_left_out_and_counted() -> None:
    lines = lines_of([429] * 310, [0.5] * 310)
    assert [line["request_id"] for line in lines] == [*map(str, range(10)), "109", "209", "309"]
    assert [line.get("left_out") for line in lines] == [None] * 10 + [99] * 3


def test_refusals_take_no_lines_from_answers_and_are_told_in_the_next_second() -> None:
    lines = lines_of([429] * 60 + [200] + [429], [0.5] * 61 + [1.5])
    assert [(line["status"], line.get("left_out")) for line in lines[10:]] == [
        (200, None),
        (429, 50),
    ]


def test_of_very_many_answers_most_are_left_out_too() -> None:
    assert len(lines_of([200] * 1000, [7.25] * 1000)) == 200 + 8
