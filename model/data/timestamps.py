"""Owns the times of events: whatever a file holds, as whole Unix seconds.

Never guesses per row: one file has one unit, and what was done to the times is said in a note.
"""

from typing import NamedTuple

import polars as pl

from model.data.rows import Rows

_LIMITS = (10**11, 10**14, 10**17)
"""Above each of these, a time is in the next finer unit; seconds up to here reach the year 5138."""
_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_ISO = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ISO_ZONE = "%Y-%m-%d %H:%M:%S%.f%#z"
_WHAT = "a timestamp that is neither a whole number of seconds nor an ISO date"


class Times(NamedTuple):
    """Seconds of each row; `exact` orders the rows where the file knows more than seconds."""

    seconds: pl.Series
    exact: pl.Series
    notes: tuple[str, ...]


def to_seconds(rows: Rows, name: str) -> Times:
    """
    Raises:
        DataError: times that are missing, no times, negative, out of range or of mixed units.
    """
    column = rows.column(name)
    if column.dtype == pl.String:
        stripped = column.str.strip_chars()
        rows.refuse(stripped.fill_null("") == "", f"no timestamp in column {name}")
        return _from_text(rows, stripped)
    rows.refuse(column.is_null(), f"no timestamp in column {name}")
    if isinstance(column.dtype, pl.Date | pl.Datetime):
        zoned = isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None
        return _from_dates(rows, column, zoned=zoned)
    return _from_numbers(rows, _whole(rows, column))


def _from_text(rows: Rows, column: pl.Series) -> Times:
    numbers = column.cast(pl.Int64, strict=False)
    if numbers.null_count() == 0:
        return _from_numbers(rows, numbers)
    floats = column.cast(pl.Float64, strict=False)
    if floats.null_count() == len(floats):
        return _from_iso(rows, column)
    rows.refuse(floats.is_null(), _WHAT)
    # Digits that a float would round are kept: whole numbers stay as they were read.
    return _from_numbers(rows, numbers.fill_null(_whole(rows, floats)))


def _whole(rows: Rows, column: pl.Series) -> pl.Series:
    if column.dtype.is_integer():
        return column.cast(pl.Int64, strict=False).fill_null(-1)
    if not column.dtype.is_float():
        rows.refuse(pl.repeat(True, len(column), eager=True), f"{_WHAT} ({column.dtype})")
    rows.refuse((column.is_finite() & (column == column.floor())).not_(), _WHAT)
    return column.cast(pl.Int64, strict=False).fill_null(-1)


def _from_numbers(rows: Rows, times: pl.Series) -> Times:
    rows.refuse(times < 0, "a timestamp that is negative or out of range")
    units = sum(((times > limit).cast(pl.Int64) for limit in _LIMITS), start=times * 0)
    unit, divisor = _UNITS[int(units[0])]
    rows.refuse(units != units[0], f"a timestamp in another unit than the first row's {unit}")
    if divisor == 1:
        return Times(times, times, ())
    note = f"timestamps are in {unit}: divided by {divisor}"
    return Times(times // divisor, times, (note,))


def _from_iso(rows: Rows, column: pl.Series) -> Times:
    text = column.str.replace("T", " ", literal=True)
    naive, *others = (text.str.strptime(pl.Datetime("us"), form, strict=False) for form in _ISO)
    for other in others:
        naive = naive.fill_null(other)
    zoned = text.str.strptime(pl.Datetime("us", "UTC"), _ISO_ZONE, strict=False)
    rows.refuse(naive.is_null() & zoned.is_null(), _WHAT)
    times = naive.dt.replace_time_zone("UTC").fill_null(zoned)
    return _from_dates(rows, times, zoned=naive.null_count() == len(naive))


def _from_dates(rows: Rows, column: pl.Series, *, zoned: bool) -> Times:
    exact = column.dt.timestamp("us")
    rows.refuse(exact < 0, "a timestamp before 1970")
    notes = () if zoned else ("timestamps have no time zone: read as UTC",)
    return Times(exact // 10**6, exact, notes)
