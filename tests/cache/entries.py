"""Owns the entries that the cache's tests store."""

import zlib
from dataclasses import replace

from cache import Append, Dtype, Entry, Header, StateKey, StateStore, user_digest

TTL_S = 100  # of stores in tests

FINGERPRINT = bytes(range(16))
ALICE = StateKey("alice", FINGERPRINT)
BOB = StateKey("bob", FINGERPRINT)


def make_entry(key: StateKey, payload: bytes | memoryview = b"state", *, version: int = 1) -> Entry:
    header = Header(
        fingerprint=key.fingerprint,
        user_digest=user_digest(key.user_id),
        version=version,
        anchor=3,
        num_events=7,
        num_final=6,
        prefix_hash=bytes(16),
        dtype=Dtype.FLOAT32,
        num_layers=2,
        num_heads=4,
        qk_dim=16,
        v_dim=32,
        payload_bytes=len(payload),
        payload_crc32=zlib.crc32(payload),
    )
    return Entry(header, payload)


def grown(entry: Entry, data: bytes) -> tuple[Append, Entry]:
    """What to append to the entry's value, and what then is to be read."""
    payload = bytes(entry.payload) + data
    header = replace(
        entry.header,
        version=entry.header.version + 1,
        num_events=entry.header.num_events + 1,
        payload_bytes=len(payload),
        payload_crc32=zlib.crc32(payload),
    )
    return Append(entry.header, header, data), Entry(header, payload)


async def seconds_to_live(store: StateStore, key: StateKey) -> int | None:
    """Seconds to live of a state that is held."""
    held = await store.look(key)
    assert held is not None
    return held.ttl_s
