"""Owns reading tables as they stand: CSV, TSV, JSON lines and parquet, as rows with their places.

Never interprets a value: text stays text.
"""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import polars as pl

from model.data.errors import DataError
from model.data.rows import ROW, Rows
from model.data.text import Text

MAX_ROWS = (8 << 30) // 32
"""Rows of a parquet file: four columns of 8 bytes fill what a file may unpack to."""
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


def read_separated(text: Text, separator: str, names: list[str] | None = None) -> Rows:
    """All columns of a CSV or TSV file as text; empty fields are null, blank lines left out.

    Args:
        names: the columns, where the file has no header

    Raises:
        DataError: not UTF-8, rows with missing or extra fields, or no rows.
    """
    skipped = 1 if names is None else 0

    def place(row: int) -> str:
        return f"line {next(islice(text.records(separator), row + skipped, None))[0]}"

    try:
        frame = pl.read_csv(
            text.source,
            has_header=names is None,
            new_columns=names,
            separator=separator,
            infer_schema=False,
            glob=False,
        )
    except _UNREADABLE as error:
        text.check_utf8()
        text.check_widths(separator)
        raise _unreadable(text.path, error) from error
    if frame[frame.columns[-1]].null_count():
        text.check_widths(separator)
    return _rows(text.path, frame, list(frame.columns), place)


def read_json_lines(text: Text, names: list[str]) -> Rows:
    """Those of the named keys that any line has, as text.

    Raises:
        DataError: a line is not a JSON object of UTF-8, or there are no rows.
    """

    def place(row: int) -> str:
        return f"line {next(islice(text.json_lines(), row, None))[0]}"

    try:
        frame = pl.read_ndjson(text.source, schema=dict.fromkeys(names, pl.String))
    except _UNREADABLE as error:
        text.check_utf8()
        text.check_json()
        raise _unreadable(text.path, error) from error
    found = list(json.loads(next(text.json_lines())[1]))
    used = [name for name in names if frame[name].null_count() < len(frame)]
    return _rows(text.path, frame.select(used), found, place)


def parquet_columns(path: Path) -> list[str]:
    """
    Raises:
        DataError: not a readable parquet file, or one with more than MAX_ROWS.
    """
    try:
        count = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
        names = list(pl.read_parquet_schema(path))
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if count > MAX_ROWS:
        raise DataError(f"{path} has {count} rows, too many; pass a part of it")
    return names


def read_parquet(path: Path, names: list[str]) -> Rows:
    """The named columns, of whatever types they are.

    Raises:
        DataError: not a readable parquet file, or no rows.
    """
    try:
        frame = pl.read_parquet(path, columns=names, glob=False, hive_partitioning=False)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return _rows(path, frame, names, lambda row: f"row {row + 1}")


def _rows(path: Path, frame: pl.DataFrame, found: list[str], place: Callable[[int], str]) -> Rows:
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    numbered = frame.with_row_index(ROW).filter(~blank)
    if not len(numbered):
        raise DataError(f"{path} has a header but no rows; it needs one row per event")
    return Rows(path, numbered, found, place)


def _unreadable(path: Path, error: BaseException) -> DataError:
    reason = (str(error).splitlines() or [""])[0]
    return DataError(f"{path} is not a readable table: {reason}; it may be damaged, get it again")
