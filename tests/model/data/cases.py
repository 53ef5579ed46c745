"""Owns writing small data files, and how tests look at what was read."""

import gzip
from pathlib import Path

from model.data.interactions import Interactions

Seen = tuple[str, int, int]


def written(path: Path, content: str | bytes) -> str:
    """The path as given to `open_data`; packed if its name says so."""
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def events_of(data: Interactions) -> dict[str, list[Seen]]:
    """(item id, action, timestamp) of each event, by user id."""
    return {
        user: [(data.items.ids[e.item], e.action, e.timestamp) for e in history.events]
        for user, history in zip(data.user_ids, data.histories(), strict=True)
    }
