"""Owns what the columns of a table mean: whose event it is, with which item, when, what happened.

Never reads files. Columns are known by name; `NAMES` lists the names.
"""

from pathlib import Path

import polars as pl

from model.data.actions import no_actions, read_actions, read_ratings
from model.data.errors import DataError
from model.data.frame import from_frame
from model.data.interactions import Interactions
from model.data.rows import Rows
from model.data.timestamps import to_seconds

NAMES = {
    "user": ("user", "user_id", "userId", "reviewerID"),
    "item": ("item", "item_id", "itemId", "movieId", "asin"),
    "timestamp": ("timestamp", "time", "unix_timestamp", "datetime", "unixReviewTime"),
    "action": ("action",),
    "rating": ("rating", "overall"),
}
"""Column names by meaning; upper case and underscores make no difference."""
_REQUIRED = ("user", "item", "timestamp")
_MAX_SHOWN = 20


def meanings(path: Path, found: list[str]) -> dict[str, str]:
    """The column of each meaning that the table has.

    Raises:
        DataError: a required column is missing, or two columns have one meaning.
    """
    columns: dict[str, str] = {}
    for meaning, names in NAMES.items():
        known = {_plain(name) for name in names}
        matching = [name for name in found if _plain(name) in known]
        if len(matching) > 1:
            raise DataError(
                f"{path}: columns {' and '.join(matching)} could both be the {meaning}; rename or "
                "remove all but one"
            )
        columns |= dict.fromkeys((meaning,) if matching else (), "".join(matching))
    if missing := [meaning for meaning in _REQUIRED if meaning not in columns]:
        accepted = "; ".join(f"{meaning}: {', '.join(NAMES[meaning])}" for meaning in missing)
        shown = ", ".join(name[:40] for name in found[:_MAX_SHOWN])
        raise DataError(
            f"{path}: no column for {', '.join(missing)}; found: {shown}. Name the columns in a "
            f"header (accepted for {accepted})"
        )
    return columns


def interpret(rows: Rows) -> Interactions:
    """
    Raises:
        DataError: missing columns, or rows that can not be used.
    """
    columns = meanings(rows.path, rows.found)
    notes: tuple[str, ...] = ()
    actions = no_actions(len(rows.frame))
    if "action" in columns:
        actions = read_actions(rows, columns["action"])
        if "rating" in columns:
            notes = (f"column {columns['rating']} is not used: {columns['action']} is",)
    elif "rating" in columns:
        actions = read_ratings(rows, columns["rating"])
    times = to_seconds(rows, columns["timestamp"])
    events = pl.DataFrame(
        {
            "user": read_ids(rows, columns["user"]),
            "item": read_ids(rows, columns["item"]),
            "timestamp": times.seconds,
            "action": actions.chosen,
        }
    )
    if times.exact is not times.seconds:
        events = events.with_columns(exact=times.exact).sort("exact", maintain_order=True)
    return from_frame(events, tasks=actions.tasks, notes=(*times.notes, *notes))


def read_ids(rows: Rows, name: str) -> pl.Series:
    """
    Raises:
        DataError: an id is missing, or is neither text nor an integer.
    """
    column = rows.column(name)
    if isinstance(column.dtype, pl.Categorical | pl.Enum | pl.UInt64):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        rows.refuse(column.str.strip_chars().fill_null("") == "", f"no id in column {name}")
        return column
    rows.refuse(column.is_null(), f"no id in column {name}")
    if not column.dtype.is_integer():
        raise DataError(
            f"{rows.path}: column {name} holds {column.dtype}, no ids; convert it to text or to "
            "integers"
        )
    return column.cast(pl.Int64)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "")
