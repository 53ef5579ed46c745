"""Owns rows as they stand in a file, so that what is wrong with one can be said with its place.

Never knows a format: whoever read the file says where a row stands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from model.data.errors import DataError

ROW = "__row"
"""Name of the column that numbers the rows of a file from 0."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of a file as they were read, with the column `ROW`."""

    path: Path
    frame: pl.DataFrame
    found: list[str]
    """Names of all columns of the file, also of those that were not read."""
    place: Callable[[int], str]
    """Where a row of that number stands, in words."""

    def column(self, name: str) -> pl.Series:
        return self.frame[name]

    def refuse(self, bad: pl.Series, what: str) -> None:
        """
        Args:
            bad: true for each row that can not be used

        Raises:
            DataError: there is such a row; names their number and where the first one stands.
        """
        if count := int(bad.sum()):
            place = self.place(int(self.frame[ROW].filter(bad)[0]))
            rows = "row has" if count == 1 else "rows have"
            raise DataError(
                f"{self.path}: {count} of {len(bad)} {rows} {what} (first: {place}); correct or "
                "remove what is wrong and try again"
            )
