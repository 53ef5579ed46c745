"""Owns one call of every operation on a Redis store."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from cache import RedisStore
from tests.cache.entries import ALICE, grown, make_entry

_HEIR = replace(ALICE, fingerprint=bytes(16))
_HELD = make_entry(ALICE)

OPERATIONS: Final[Mapping[str, Callable[[RedisStore], Awaitable[object]]]] = {
    "get": lambda store: store.get(ALICE),
    "load": lambda store: store.load(ALICE),
    "put": lambda store: store.put(ALICE, _HELD),
    "append": lambda store: store.append(ALICE, grown(_HELD, b"more")[0]),
    "derive": lambda store: store.derive(_HEIR, make_entry(_HEIR), _HELD.header, ttl_s=9),
    "head": lambda store: store.head(ALICE),
    "peek": lambda store: store.peek(ALICE),
    "look": lambda store: store.look(ALICE),
    "scan": lambda store: anext(store.scan(), None),
    "delete": lambda store: store.delete(ALICE),
    "forget": lambda store: store.forget(ALICE.user_id),
    "num_keys": lambda store: store.num_keys(),
    "memory_policies": lambda store: store.memory_policies(),
    "ping": lambda store: store.ping(),
}
