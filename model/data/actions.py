"""Owns what happened at each row: names or ratings, as action indices of one task.

Never reads files.
"""

from typing import NamedTuple

import polars as pl

from model.config import NO_ACTION, ActionTask
from model.data.errors import DataError
from model.data.rows import Rows
from model.presets import RATING_TASK

MAX_ACTIONS = 64


class Actions(NamedTuple):
    """What happened at each row, as an index, and the task that names the indices."""

    chosen: pl.Series
    tasks: tuple[ActionTask, ...]


def no_actions(count: int) -> Actions:
    return Actions(pl.repeat(NO_ACTION, count, dtype=pl.Int64, eager=True), ())


def read_actions(rows: Rows, name: str) -> Actions:
    """One task with the distinct names in order; a missing name is no action.

    Raises:
        DataError: more than MAX_ACTIONS names.
    """
    column = rows.column(name).cast(pl.String).replace("", None)
    names = column.drop_nulls().unique().sort().to_list()
    if len(names) > MAX_ACTIONS:
        raise DataError(
            f"{rows.path}: column {name} has {len(names)} distinct actions, at most {MAX_ACTIONS} "
            "can be predicted; group them, or rename the column to leave it out"
        )
    if not names:
        return no_actions(len(column))
    return Actions(index_of(column, names), (ActionTask(name="action", actions=tuple(names)),))


def index_of(column: pl.Series, names: list[str]) -> pl.Series:
    """Action index of each name; NO_ACTION for others."""
    indices = list(range(NO_ACTION + 1, NO_ACTION + 1 + len(names)))
    return column.replace_strict(names, indices, default=NO_ACTION, return_dtype=pl.Int64)


def rating_index(rating: pl.Series) -> pl.Series:
    """Below 3 negative, below 4 neutral, else positive."""
    action = RATING_TASK.actions.index
    grades = (
        pl.when(rating < 3)
        .then(1 + action("negative"))
        .when(rating < 4)
        .then(1 + action("neutral"))
        .otherwise(1 + action("positive"))
    )
    return pl.select(grades.cast(pl.Int64)).to_series()


def read_ratings(rows: Rows, name: str) -> Actions:
    """
    Raises:
        DataError: a rating is missing, or is not of 0.5 to 5.
    """
    rating = rows.column(name).cast(pl.Float64, strict=False)
    rows.refuse(~rating.is_between(0.5, 5).fill_null(False), f"no rating of 0.5 to 5 in {name}")
    return Actions(rating_index(rating), (RATING_TASK,))
