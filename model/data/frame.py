"""Owns the way from one row per event to Interactions: order of users, of items and of events.

Never reads files and never judges rows: ids are there, times are seconds, actions are indices.
"""

import polars as pl
import torch
from torch import Tensor

from model.config import NO_ACTION, ActionTask
from model.data.interactions import Interactions
from model.items import Items


def from_frame(
    events: pl.DataFrame,
    *,
    tasks: tuple[ActionTask, ...] = (),
    listed: pl.DataFrame | None = None,
    notes: tuple[str, ...] = (),
) -> Interactions:
    """Users and items in order of id, a user's events in stable order of time.

    Ids are in order of number where all of them are plain integers, else in order of text.

    Args:
        events: columns `user` and `item` (integers or strings), `timestamp` (integers) and, if
            there are tasks, `action` (an index)
        listed: column `item` of the same type, each value once, and text columns that are kept as
            metadata of the items that occur

    Raises:
        polars.exceptions.PolarsError: an item is listed twice.
    """
    users, items = _in_order(events["user"]), _in_order(events["item"])
    ordered = pl.DataFrame(
        {
            "user": _index(events["user"], users),
            "item": _index(events["item"], items),
            "action": events["action"] if tasks else _no_actions(len(events)),
            "timestamp": events["timestamp"],
        }
    ).sort("user", "timestamp", maintain_order=True)
    columns = {name: _tensor(ordered[name]) for name in ordered.columns}
    counts = torch.bincount(columns.pop("user"), minlength=len(users))
    return Interactions(
        _items(items, listed),
        users.cast(pl.String).to_list(),
        torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0))),
        **columns,
        tasks=tasks,
        num_listed=len(items if listed is None else listed),
        notes=(*notes, *_remarks(ordered, counts)),
    )


def _in_order(ids: pl.Series) -> pl.Series:
    """The distinct ids, in order."""
    distinct = ids.unique()
    if distinct.dtype != pl.String:
        return distinct.sort()
    numbers = distinct.cast(pl.Int64, strict=False)
    if (numbers.cast(pl.String) == distinct).fill_null(False).all():  # "07" is not the number 7
        return distinct.gather(numbers.arg_sort())
    return distinct.sort()


def _index(ids: pl.Series, ordered: pl.Series) -> pl.Series:
    places = pl.DataFrame({"id": ordered}).with_row_index("place")
    found = pl.DataFrame({"id": ids}).join(places, on="id", how="left", maintain_order="left")
    return found["place"]


def _no_actions(count: int) -> pl.Series:
    return pl.repeat(NO_ACTION, count, dtype=pl.Int64, eager=True)


def _tensor(column: pl.Series) -> Tensor:
    return torch.from_numpy(column.cast(pl.Int64).to_numpy(writable=True))


def _items(ids: pl.Series, listed: pl.DataFrame | None) -> Items:
    table = pl.DataFrame({"item": ids})
    if listed is not None:
        table = table.join(listed, on="item", how="left", maintain_order="left", validate="1:1")
    table = table.rename({"item": "item_id"}).cast(pl.String).fill_null("")
    return Items(table.to_dicts())


def _remarks(ordered: pl.DataFrame, counts: Tensor) -> list[str]:
    remarks = []
    if repeated := _repeated(ordered):
        remarks.append(f"{repeated} rows repeat another row exactly: all are kept")
    if single := int((counts == 1).sum()):
        remarks.append(f"{single} of {len(counts)} users have one event only")
    return remarks


def _repeated(ordered: pl.DataFrame) -> int:
    """Only events of one user and second can be the same."""
    moment = pl.struct("user", "timestamp")
    tied = ordered.filter((moment == moment.shift()) | (moment == moment.shift(-1)))
    return len(tied) - tied.n_unique()
