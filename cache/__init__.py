"""Where user states live: keys, the stored form, and the stores that hold it.

Bytes only: what a payload means is the caller's business. `StateStore` is the contract.
"""

from cache.header import DIGEST_BYTES, HEADER_BYTES, Dtype, Header, user_digest
from cache.keys import StateKey
from cache.memory import MemoryStore
from cache.redis_store import RedisStore
from cache.store import Append, Entry, StateStore, StoreUnavailable, read_entry

__all__ = [
    "DIGEST_BYTES",
    "HEADER_BYTES",
    "Append",
    "Dtype",
    "Entry",
    "Header",
    "MemoryStore",
    "RedisStore",
    "StateKey",
    "StateStore",
    "StoreUnavailable",
    "read_entry",
    "user_digest",
]
