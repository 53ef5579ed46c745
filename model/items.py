"""Owns the item vocabulary: external item ids, their indices, and what is known about each item.

Never scores. Stored as `items.csv` with a header; the column `item_id` comes first and the row's
order is the item's index.
"""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class ItemsError(ValueError):
    """`items.csv` can not be used; the message says why."""


class Items:
    """Item ids in index order, with one metadata mapping per item."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        """Rows in index order, each with an `item_id`.

        Raises:
            ItemsError: a duplicate or an empty id.
        """
        self.rows = rows
        self.ids = [row["item_id"] for row in rows]
        self.index = {item_id: index for index, item_id in enumerate(self.ids)}
        if len(self.index) != len(self.ids):
            raise ItemsError("an item_id appears twice")
        if "" in self.index:
            raise ItemsError("an item_id is empty")

    def __len__(self) -> int:
        return len(self.ids)

    def metadata(self, index: int) -> dict[str, str]:
        """All columns but the id."""
        return {name: value for name, value in self.rows[index].items() if name != "item_id"}

    def split(self, ids: Sequence[str]) -> tuple[list[int], list[str]]:
        """Indices of the known ids in order, each once, and the unknown ids, each once."""
        found = dict.fromkeys(map(self.index.get, ids))
        known = [index for index in found if index is not None]
        if len(known) == len(found):
            return known, []
        return known, list(dict.fromkeys(each for each in ids if each not in self.index))

    def ids_only(self) -> "Items":
        """Without what is known about the items beside their ids."""
        return Items([{"item_id": item_id} for item_id in self.ids])

    def digest(self) -> str:
        """sha256 over the ids in order; titles and other columns may change freely."""
        return hashlib.sha256(json.dumps(self.ids).encode()).hexdigest()

    def to_csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(
            text, list(self.rows[0]), lineterminator="\r\n"
        )  # as RFC 4180 has it; quotes both
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            ItemsError: not a CSV of full rows with an `item_id` column.
            OSError: not readable.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, strict=True)
                rows = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ItemsError(f"not a UTF-8 CSV file: {error}") from error
        if not rows or "item_id" not in rows[0]:
            raise ItemsError("needs a header with an item_id column and at least one row")
        for line, row in enumerate(rows, start=2):
            if None in row or None in row.values():
                raise ItemsError(f"line {line} has a different number of fields than the header")
        return cls(rows)
