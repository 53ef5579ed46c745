"""Owns the seam between model and cache: a user state to bytes and back.

Never talks to a store. Payload, little-endian and token-major, so that an append touches only the
tail: for each final row its event (item index i32, action index i32, timestamp i64), its K and V of
all layers (layers x [H * K, H * V] numbers of the header's dtype) and, in int8, their scales
(layers x [H, H] bytes); then the events without a row, the pending one.
"""

import zlib
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch

from cache import DIGEST_BYTES, HEADER_BYTES, Append, Dtype, Entry, Header, StateKey, user_digest
from model.config import HSTUConfig
from model.engine.state import UserState, num_final_rows
from model.history import History
from model.kernels.pages import PagePool
from service.row_format import EVENT, RowFormat


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state and the header under which the store holds it; None if it holds nothing like it.

    What is made of it is written as the next version of its lineage; that has a version where the
    held value is another model's too, and is None if the store could not be asked.
    """

    state: UserState
    version: int = 0
    header: Header | None = None
    lineage: bytes | None = None


class StateCodec:
    """Bytes for the states of one checkpoint: written in `dtype`, read in any.

    Replicas that write another dtype than each other, as in a change of the setting, read each
    other's states; an append to one is a whole write in the writer's own.
    """

    def __init__(
        self,
        config: HSTUConfig,
        fingerprint: bytes,
        pool: PagePool,
        dtype: Dtype = Dtype.FLOAT32,
    ) -> None:
        self._config, self.fingerprint, self.dtype = config, fingerprint, dtype
        self._pool = pool
        self._formats = {each: RowFormat(config, each, pool.device) for each in Dtype}

    @property
    def row_bytes(self) -> int:
        """Of one more event in a state as it is written."""
        return self._formats[self.dtype].layout.itemsize

    def key(self, user_id: str) -> StateKey:
        return StateKey(user_id, self.fingerprint)

    def cost(self, num_events: int) -> tuple[int, int]:
        """Rows that the state of a history of that length keeps, and its bytes in the store."""
        num_events = min(num_events, self._config.window.capacity)
        num_rows = num_final_rows(self._config, num_events)
        num_bytes = num_rows * self.row_bytes + (num_events - num_rows) * EVENT.itemsize
        return num_rows, HEADER_BYTES + num_bytes

    def encode(self, user_id: str, state: UserState, version: int, lineage: bytes) -> Entry:
        """The whole state as the store's `version` of the lineage."""
        events = _to_records(state.history)
        payload = self._payload(state, events, 0)
        return Entry(self._header(user_id, state, events, version, lineage, payload), payload)

    def append(self, user_id: str, held: StoredState, state: UserState) -> Append | None:
        """What to add to the value of `held` for that of `state`; None if more than that changed.

        The pending event of a state is the first part of its row in the next one, so a state that
        only grew is the old payload and more.
        """
        before = held.state
        shared = before.history.common_prefix(state.history)
        if held.header is None or held.header.dtype is not self.dtype:
            return None
        if shared < len(before.history):
            return None
        events = _to_records(state.history)
        pending = len(before.history) - before.num_final
        data = self._payload(state, events, before.num_final)[pending * EVENT.itemsize :]
        lineage, version = held.header.lineage, held.header.version + 1
        header = self._header(user_id, state, events, version, lineage, data, held.header)
        return Append(held.header, header, data)

    def _payload(self, state: UserState, events: npt.NDArray[np.void], first: int) -> bytes:
        """The rows from `first` on, and the events without one."""
        final = state.num_final
        rows = self._formats[self.dtype].pack(events[first:final], *state.rows.tokens(first))
        return rows + events[final:].tobytes()

    def _header(
        self,
        user_id: str,
        state: UserState,
        events: npt.NDArray[np.void],
        version: int,
        lineage: bytes,
        payload: bytes,
        before: Header | None = None,
    ) -> Header:
        """`payload` follows that of `before`."""
        config = self._config
        return Header(
            fingerprint=self.fingerprint,
            user_digest=user_digest(user_id),
            lineage=lineage,
            version=version,
            anchor=state.history.anchor,
            num_events=len(events),
            num_final=state.num_final,
            prefix_hash=_prefix_hash(events),
            dtype=self.dtype,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            qk_dim=config.qk_dim,
            v_dim=config.v_dim,
            payload_bytes=len(payload) + (before.payload_bytes if before else 0),
            payload_crc32=zlib.crc32(payload, before.payload_crc32 if before else 0),
        )

    def decode(self, entry: Entry) -> StoredState | None:
        """None for anything this checkpoint could not have written."""
        header, config = entry.header, self._config
        shape = (header.num_layers, header.num_heads, header.qk_dim, header.v_dim)
        if shape != (config.num_layers, config.num_heads, config.qk_dim, config.v_dim):
            return None
        final, pending = header.num_final, header.num_events - header.num_final
        expected = num_final_rows(config, header.num_events)
        if final != expected or header.num_events > config.window.capacity:
            return None
        rows_format = self._formats[header.dtype]
        row_bytes = rows_format.layout.itemsize
        if header.payload_bytes != final * row_bytes + pending * EVENT.itemsize:
            return None
        rows = np.frombuffer(entry.payload, rows_format.layout, final)
        tail = np.frombuffer(entry.payload, EVENT, offset=final * row_bytes)
        events = np.concatenate((rows["event"], tail))
        if _prefix_hash(events) != header.prefix_hash or not self._in_vocabulary(events):
            return None
        history = _from_records(events, header.anchor)
        there = self._pool.receive(final, rows_format.numbers(rows), rows_format.unpack)
        state = UserState(history, there)
        return StoredState(state, header.version, header, header.lineage)

    def _in_vocabulary(self, events: npt.NDArray[np.void]) -> bool:
        items, actions = events["item"], events["action"]
        return bool(
            ((items >= 0) & (items < self._config.num_items)).all()
            and ((actions >= 0) & (actions <= len(self._config.actions))).all()
        )


def _to_records(history: History) -> npt.NDArray[np.void]:
    records = np.empty(len(history), EVENT)
    records["item"], records["action"] = history.items.numpy(), history.actions.numpy()
    records["timestamp"] = history.timestamps.numpy()
    return records


def _from_records(events: npt.NDArray[np.void], anchor: int) -> History:
    items, actions, timestamps = (
        torch.from_numpy(events[name].astype(np.int64)) for name in ("item", "action", "timestamp")
    )
    return History(items, actions, timestamps, anchor)


def _prefix_hash(events: npt.NDArray[np.void]) -> bytes:
    return blake2b(events.tobytes(), digest_size=DIGEST_BYTES).digest()
