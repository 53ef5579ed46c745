"""Owns reading the id map that goes with foreign weights. Never guesses an order."""

from pathlib import Path

from model.importers.weights import ImportFailed
from model.items import Items, ItemsError


def read_item_ids(path: Path, count: int) -> Items:
    """Items in the source's index order, padding left out.

    A CSV with an `item_id` column, whose other columns are kept, or a text of one id per line.

    Raises:
        ImportFailed: not readable, an empty or repeated id, or not `count` of them.
    """
    try:
        items = _read(path)
    except (OSError, ValueError) as error:
        raise ImportFailed(f"{path}: {error}") from error
    if len(items) != count:
        raise ImportFailed(f"{path} lists {len(items)} items, the weights hold {count}")
    return items


def _read(path: Path) -> Items:
    """
    Raises:
        ItemsError: a CSV or an id that `Items` refuses.
        UnicodeDecodeError: not UTF-8.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if not lines:
        raise ItemsError("holds no ids")
    if path.suffix != ".csv" and "item_id" not in lines[0].split(","):
        return Items([{"item_id": line.strip()} for line in lines])
    rows = Items.read(path).rows
    return Items([{"item_id": row["item_id"]} | row for row in rows])
