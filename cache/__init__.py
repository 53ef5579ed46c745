"""Where user states live: keys, the stored form, and the stores that hold it.

Bytes only: what a payload means is the caller's business. `StateStore` is the contract.
"""

from cache.breaker import Breaker, BreakerState
from cache.header import DIGEST_BYTES, HEADER_BYTES, Dtype, Header, user_digest
from cache.keys import StateKey
from cache.memory import MemoryStore
from cache.redis.client import BreakerChange
from cache.redis.memory_policy import MemoryPolicy
from cache.redis.store import RedisStore
from cache.store import Append, Entry, Held, StateStore, StoreFull, StoreUnavailable, read_entry

__all__ = [
    "DIGEST_BYTES",
    "HEADER_BYTES",
    "Append",
    "Breaker",
    "BreakerChange",
    "BreakerState",
    "Dtype",
    "Entry",
    "Header",
    "Held",
    "MemoryPolicy",
    "MemoryStore",
    "RedisStore",
    "StateKey",
    "StateStore",
    "StoreFull",
    "StoreUnavailable",
    "read_entry",
    "user_digest",
]
