"""Owns the contract of a state store and the checks on a stored value. Never does I/O."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cache.header import HEADER_BYTES, LINEAGE_BYTES, Buffer, Header, new_lineage, user_digest
from cache.keys import StateKey

BEGUN_S: Final = 600
"""How long a key is kept that is only begun, unless states live shorter: longer than any request
goes on between load and write, and short, as most who only ask for an unknown user never write."""


class StoreUnavailable(Exception):
    """The store could not be asked, or did not answer in time. The message says what to check."""


class StoreFull(StoreUnavailable):
    """The store is full and does not make room; what it holds can be read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A header and its payload. Raises ValueError if the header tells another payload length."""

    header: Header
    payload: bytes | memoryview

    def __post_init__(self) -> None:
        if len(self.payload) != self.header.payload_bytes:
            raise ValueError(
                f"payload is {len(self.payload)} bytes long, "
                f"its header says {self.header.payload_bytes}"
            )

    @property
    def num_bytes(self) -> int:
        return HEADER_BYTES + len(self.payload)

    def value(self) -> bytes:
        """The stored form, which `read_entry` reads: header, then payload, in one copy."""
        return b"".join((self.header.pack(), self.payload))


@dataclass(frozen=True, slots=True)
class Found:
    """What a load found or began: a lineage, and its newest version if it has one already."""

    lineage: bytes
    entry: Entry | None = None

    @property
    def version(self) -> int:
        return self.entry.header.version if self.entry else 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a look at a stored state tells; `ttl_s` is None if it never expires."""

    key: StateKey
    header: Header
    ttl_s: int | None

    @property
    def num_bytes(self) -> int:
        return HEADER_BYTES + self.header.payload_bytes


@dataclass(frozen=True, slots=True)
class Append:
    """What makes the value under header `held` the value under `header`: bytes at its end.

    Raises ValueError unless the header follows the held one and the lengths add up.
    """

    held: Header
    header: Header
    data: bytes

    def __post_init__(self) -> None:
        if not follows(self.header, self.held.lineage, self.held.version):
            raise ValueError("an append makes the next version")
        if self.header.payload_bytes != self.held.payload_bytes + len(self.data):
            raise ValueError("the new header tells another payload length than held and data make")


def is_owned(header: Header, key: StateKey) -> bool:
    """Whether the header carries the key's model and user."""
    return header.fingerprint == key.fingerprint and header.user_digest == user_digest(key.user_id)


def read_entry(value: Buffer, key: StateKey) -> Entry | None:
    """The entry in a stored value, or None unless all of it is sound and the key's own.

    The payload is a view of `value`, not a copy. Never raises.
    """
    header = Header.unpack(value)
    if header is None or not is_owned(header, key):
        return None
    payload = memoryview(value)[HEADER_BYTES:]
    if len(payload) != header.payload_bytes or zlib.crc32(payload) != header.payload_crc32:
        return None
    return Entry(header, payload)


def read_found(value: Buffer | None, key: StateKey) -> Found | None:
    """What a stored value is worth to its key's writers; None for nothing. Never raises."""
    if value is None:
        return None
    if len(value) == LINEAGE_BYTES:
        return Found(bytes(value))
    entry = read_entry(value, key)
    return Found(entry.header.lineage, entry) if entry else None


def follows(new: Header, lineage: bytes, version: int) -> bool:
    """The compare-and-set rule: the next version of the same lineage, and of no other."""
    return new.lineage == lineage and new.version == version + 1


def is_followed(start: bytes, new: Header) -> bool:
    """Whether a stored value whose first `HEADER_BYTES` are `start` is the one before `new`."""
    held = Header.unpack(start)
    if held is not None:
        return follows(new, held.lineage, held.version)
    return len(start) == LINEAGE_BYTES and follows(new, start, 0)


def require_owner(key: StateKey, header: Header) -> None:
    """Raises ValueError for a header that could never be read back under the key."""
    if not is_owned(header, key):
        raise ValueError("the header carries another user or fingerprint than the key")


class StateStore(Protocol):
    """Where states live between requests.

    A cache: any state may vanish at any time. Every method may raise StoreUnavailable if the
    store is remote. A call may be cancelled at any point without harm to the calls of others.
    `timeout_s` is what the caller has left for a call: it can only shorten the store's own timeout.

    What is gone stays gone: a write needs the lineage it was made from to be held still, and a
    lineage that was deleted, evicted or has expired is never begun again. So no write, however
    late and whoever makes it, brings back what a delete has dropped. Who makes a state of one key
    from that of another loads the key to be written first.
    """

    @property
    def tier(self) -> str:
        """The kind of place: "memory" or "redis"."""

    async def get(self, key: StateKey, *, timeout_s: float | None = None) -> Entry | None:
        """The state under the key, its time to live renewed; for those who only look.

        None if there is none, or if anything is wrong with it: short, corrupt, of another format,
        fingerprint or user.
        """

    async def load(
        self,
        key: StateKey,
        *,
        timeout_s: float | None = None,
        draw: Callable[[], bytes] = new_lineage,
    ) -> Found:
        """As `get`, for those who mean to write: begins a lineage where it finds no state.

        A lineage without a state is kept for `BEGUN_S` at most, however often it is found.
        `draw` gives the bytes to begin it with. Raises StoreFull if there is no state and no room
        to begin one.
        """

    async def put(self, key: StateKey, entry: Entry, *, timeout_s: float | None = None) -> bool:
        """Store the entry, if its lineage is held at exactly the version before it; 0 if begun.

        False: something else is held, or nothing, and nothing was changed; load again, and extend
        what is found if it is the same lineage. True: stored with a fresh time to live, though a
        store may evict it at once if it is too large. After StoreUnavailable or a cancellation the
        entry is stored whole or not at all, unknown which. Raises ValueError if the entry's header
        does not carry the key's user and fingerprint.
        """

    async def append(
        self, key: StateKey, append: Append, *, timeout_s: float | None = None
    ) -> bool:
        """Extend the value held, if its header is exactly `append.held`; moves the tail alone.

        False: something else is held, or nothing, and nothing was changed. Otherwise as `put`.
        """

    async def head(self, key: StateKey, *, timeout_s: float | None = None) -> Header | None:
        """The header of what is held, its time to live renewed; None as `get`.

        The payload is not looked at: equal headers stand before equal payloads, or before a
        payload that `get` finds corrupt.
        """

    async def delete(self, key: StateKey, *, timeout_s: float | None = None) -> bool:
        """Drop all that is held of the key's user, whatever the fingerprint, lineages included.

        False if there was no state. After StoreUnavailable some of it may be left; ask again.
        """

    async def look(self, key: StateKey, *, timeout_s: float | None = None) -> Held | None:
        """What is held, without its payload, and its seconds to live; renews nothing."""

    async def ping(self) -> None:
        """Return if the store answers."""

    async def close(self) -> None:
        """Release connections and memory; never raises. The store is not used afterwards."""
