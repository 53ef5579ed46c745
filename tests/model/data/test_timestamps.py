"""Whatever a file counts its times in, they become seconds; nothing is guessed per row."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from model.data.errors import DataError
from model.data.interactions import Interactions
from model.data.sources import open_data
from tests.model.data.cases import events_of, written

SECOND = 1_318_896_000
NAIVE = ("timestamps have no time zone: read as UTC",)


def table(folder: Path, *times: object) -> str:
    rows = "".join(f"u,i{place},{time}\n" for place, time in enumerate(times))
    return written(folder / "a.csv", "user,item,timestamp\n" + rows)


def notes(data: Interactions) -> tuple[str, ...]:
    return tuple(note for note in data.notes if "one event" not in note)


@pytest.mark.parametrize(
    ("times", "note"),
    [
        ((SECOND, SECOND + 1), ()),
        ((f"{SECOND}.0", f" {SECOND + 1}"), ()),
        ((f"{SECOND / 10:.1f}e1", SECOND + 1), ()),
        ((0, 10**11), ()),
        ((SECOND * 10**3 + 7, SECOND * 10**3 + 1999), ("milliseconds", 10**3)),
        ((SECOND * 10**6 + 7, SECOND * 10**6 + 1999999), ("microseconds", 10**6)),
        ((SECOND * 10**9 + 7, SECOND * 10**9 + 1999999999), ("nanoseconds", 10**9)),
        ((f"{SECOND * 10**9 + 7}.0", SECOND * 10**9 + 1999999999), ("nanoseconds", 10**9)),
    ],
)
def test_numbers(tmp_path: Path, times: tuple[object, ...], note: tuple[object, ...]) -> None:
    data = open_data(table(tmp_path, *times))
    expected = [0, 10**11] if times[0] == 0 else [SECOND, SECOND + 1]
    assert data.timestamp.tolist() == expected
    unit = f"timestamps are in {note[0]}: divided by {note[1]}" if note else None
    assert notes(data) == ((unit,) if unit else ())


def test_what_is_finer_than_a_second_still_orders(tmp_path: Path) -> None:
    data = open_data(table(tmp_path, SECOND * 1000 + 9, SECOND * 1000 + 3, SECOND * 1000 + 3))
    assert [item for item, _, _ in events_of(data)["u"]] == ["i1", "i2", "i0"]


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("2011-10-18", NAIVE),
        ("2011-10-18T00:00", NAIVE),
        ("2011-10-18 00:00:00", NAIVE),
        ("2011-10-18T00:00:00.999", NAIVE),
        ("2011-10-18T00:00:00Z", ()),
        ("2011-10-18T02:00:00+02:00", ()),
        ("2011-10-17 23:00:00.5-0100", ()),
    ],
)
def test_dates_as_text(tmp_path: Path, text: str, noted: tuple[str, ...]) -> None:
    data = open_data(table(tmp_path, text))
    assert (data.timestamp.tolist(), notes(data)) == ([SECOND], noted)


@pytest.mark.parametrize(
    ("value", "noted"),
    [
        (date(2011, 10, 18), NAIVE),
        (datetime(2011, 10, 18), NAIVE),
        (datetime(2011, 10, 18, 0, 0, 0, 5, tzinfo=UTC), ()),
        (datetime(2011, 10, 18, 2, tzinfo=timezone(timedelta(hours=2))), ()),
        (float(SECOND), ()),
    ],
)
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_types_of_parquet(tmp_path: Path, value: object, noted: tuple[str, ...], unit: str) -> None:
    frame = pl.DataFrame({"user": ["u"], "item": ["i"], "datetime": [value]})
    if isinstance(dtype := frame["datetime"].dtype, pl.Datetime):
        zone = "Europe/Berlin" if dtype.time_zone else None
        frame = frame.cast({"datetime": pl.Datetime(unit, dtype.time_zone)})  # type: ignore[arg-type]
        if zone:
            frame = frame.with_columns(pl.col("datetime").dt.convert_time_zone(zone))
    frame.write_parquet(tmp_path / "a.parquet")
    data = open_data(str(tmp_path / "a.parquet"))
    assert (data.timestamp.tolist(), notes(data)) == ([SECOND], noted)


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ((SECOND, SECOND * 1000, SECOND * 1000), r"2 of 3 rows have .* the first row's seconds"),
        ((SECOND * 1000, SECOND), r"1 of 2 row has .* first row's milliseconds \(first: line 3\)"),
        ((SECOND, -1), r"negative or out of range \(first: line 3\)"),
        ((SECOND, "9" * 20), r"negative or out of range \(first: line 3\)"),
        ((SECOND, f"{SECOND}.5"), r"neither a whole number .*line 3"),
        ((SECOND, "inf"), r"neither a whole number .*line 3"),
        ((SECOND, "2011-10-18"), r"neither a whole number .*line 3"),
        (("2011-10-18", SECOND), r"neither a whole number .*line 2"),
        (("2011-10-18", "2011-13-18"), r"neither a whole number .*line 3"),
        (("yesterday",), r"neither a whole number .*line 2"),
        (("1969-12-31",), "before 1970"),
    ],
)
def test_what_is_no_time(tmp_path: Path, times: tuple[object, ...], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        open_data(table(tmp_path, *times))
