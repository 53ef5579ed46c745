"""Owns the layout of Taobao UserBehavior: user, item, category, action, timestamp, no header.

Never reads other layouts; `is_taobao` tells by the first line.
"""

import polars as pl

from model.config import ActionTask
from model.data.actions import index_of
from model.data.columns import read_ids
from model.data.frame import from_frame
from model.data.interactions import Interactions
from model.data.tables import read_separated
from model.data.text import Text
from model.data.timestamps import to_seconds

BEHAVIOUR_TASK = ActionTask(name="behaviour", actions=("pv", "cart", "fav", "buy"))
_COLUMNS = ["user", "item", "category", "action", "timestamp"]


def is_taobao(first_line: str) -> bool:
    fields = first_line.split(",")
    if len(fields) != len(_COLUMNS):
        return False
    action = fields.pop(_COLUMNS.index("action"))
    return action in BEHAVIOUR_TASK.actions and all(field.isdecimal() for field in fields)


def read_taobao(text: Text) -> Interactions:
    """Behaviours as actions; the category of an item is kept as metadata.

    Raises:
        DataError: malformed rows.
    """
    rows = read_separated(text, ",", _COLUMNS)
    action = rows.column("action")
    known = action.is_in(BEHAVIOUR_TASK.actions).fill_null(False)
    rows.refuse(~known, f"none of the actions {', '.join(BEHAVIOUR_TASK.actions)}")
    times = to_seconds(rows, "timestamp")
    events = pl.DataFrame(
        {
            "user": read_ids(rows, "user"),
            "item": read_ids(rows, "item"),
            "timestamp": times.seconds,
            "action": index_of(action, list(BEHAVIOUR_TASK.actions)),
            "category": rows.column("category").fill_null(""),
        }
    )
    pairs = events.select("item", "category").unique(maintain_order=True)
    listed = pairs.unique("item", keep="first", maintain_order=True)
    notes = times.notes
    if several := int((pairs["item"].value_counts()["count"] > 1).sum()):
        notes += (f"{several} items are in several categories: the first one is kept",)
    return from_frame(events, tasks=(BEHAVIOUR_TASK,), listed=listed, notes=notes)
