"""Owns walking the keys of one server: their names, what they hold, and dropping them.

Never reads a payload and never renews a time to live.
"""

from collections.abc import Sequence
from typing import Final

from cache.header import HEADER_BYTES, LINEAGE_BYTES, Header
from cache.keys import StateKey
from cache.redis.node import Command, Session
from cache.store import Held, is_owned

FIRST: Final = "0"
"""The cursor of a scan's first step, and what the last step gives as the next one."""

_SCAN_KEYS: Final = 1000
"""Keys looked at in one step of a scan; a server answers nobody else meanwhile."""


async def scan_names(session: Session, cursor: str, pattern: str) -> tuple[str, list[bytes]]:
    """The next cursor, and the names of one step."""
    command = ("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_KEYS)
    ((following, names),) = await session.call(command)
    return following.decode(), names


async def scan_states(session: Session, cursor: str, pattern: str) -> tuple[str, list[Held]]:
    """The next cursor, and what is held among the keys of one step."""
    following, names = await scan_names(session, cursor, pattern)
    keys = [key for key in map(StateKey.parse, names) if key]
    return following, await look(session, keys)


async def all_names(session: Session, pattern: str) -> list[bytes]:
    """The names of a whole scan; one that a server tells twice is there twice."""
    cursor, found = await scan_names(session, FIRST, pattern)
    while cursor != FIRST:
        cursor, names = await scan_names(session, cursor, pattern)
        found += names
    return found


async def look(session: Session, keys: Sequence[StateKey]) -> list[Held]:
    """Of each key that holds a state of its own: one round trip for all of them."""
    looks: list[Command] = []
    for key in keys:
        looks += [("GETRANGE", key.name, 0, HEADER_BYTES - 1), ("TTL", key.name)]
    replies = await session.call(*looks) if looks else []
    found = []
    for key, value, ttl_s in zip(keys, replies[::2], replies[1::2], strict=True):
        header = Header.unpack(value or b"")
        if header and is_owned(header, key):
            found.append(Held(key, header, ttl_s if ttl_s >= 0 else None))
    return found


async def unlink(session: Session, names: Sequence[str | bytes]) -> int:
    """How many states went; keys that were only begun do not count."""
    *sizes, _ = await session.call(*(("STRLEN", name) for name in names), ("UNLINK", *names))
    return sum(size is None or size > LINEAGE_BYTES for size in sizes)
