"""A user state's bytes: what goes in comes out, an append touches the tail, the foreign is None."""

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache import Dtype, Entry, read_entry
from model.checkpoint import Checkpoint
from model.config import Window
from model.engine.encoder import EncodeJob
from model.engine.engine import Engine
from model.engine.mfalcon import Microbatch
from model.engine.state import UserState
from model.history import Event, History
from model.kernels.pages import PagePool
from model.network.hstu import HSTU
from model.presets import rectools
from service.codec import StateCodec
from service.row_format import ROUNDING
from tests.service.builders import NOW_S, history_of, make_events

FINGERPRINT = bytes(range(16))
LINEAGE = bytes(range(100, 116))
SIZES = [0, 1, 2, 7, 12, 13, 18, 19, 40]


def make_state(engine: Engine, checkpoint: Checkpoint, count: int) -> UserState:
    """The state after `count` events that came one by one, so that its window may have moved."""
    state = engine.empty_state()
    for event in history_of(checkpoint, make_events(count)).events:
        history, _ = state.history.merge([event], checkpoint.config.window)
        state = engine.encode([EncodeJob(state, history)])[0].state
    return state


@pytest.fixture(scope="session", params=Dtype, ids=lambda dtype: dtype.label)
def codec(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> StateCodec:
    return StateCodec(checkpoint.config, FINGERPRINT, PagePool(checkpoint.config), request.param)


@pytest.fixture(scope="session")
def exact(checkpoint: Checkpoint) -> StateCodec:
    return StateCodec(checkpoint.config, FINGERPRINT, PagePool(checkpoint.config))


@pytest.fixture(scope="session")
def entry(engine: Engine, checkpoint: Checkpoint, codec: StateCodec) -> Entry:
    return codec.encode("alice", make_state(engine, checkpoint, 5), 3, LINEAGE)


@pytest.mark.parametrize("count", SIZES)
def test_round_trip(engine: Engine, checkpoint: Checkpoint, codec: StateCodec, count: int) -> None:
    state = make_state(engine, checkpoint, count)
    found = codec.decode(codec.encode("alice", state, 9, LINEAGE))
    assert found is not None
    assert found.version == 9
    assert found.state.history.events == state.history.events
    assert found.state.history.anchor == state.history.anchor
    assert (state.history.anchor > 0) == (count > checkpoint.config.window.capacity)
    for read, written in ((found.state.keys, state.keys), (found.state.values, state.values)):
        assert read.shape == written.shape
        assert read.dtype == torch.float32
        largest = written.abs().amax(-1, keepdim=True)
        assert bool(((read - written).abs() <= ROUNDING[codec.dtype] * largest).all())


@pytest.mark.parametrize("count", SIZES)
def test_decoded_state_gives_the_same_scores(
    engine: Engine, checkpoint: Checkpoint, exact: StateCodec, count: int
) -> None:
    state = make_state(engine, checkpoint, count)
    stored = exact.decode(exact.encode("alice", state, 1, LINEAGE))
    assert stored is not None
    newest = Event(3, 1, NOW_S - 60)
    scores = []
    for start in (state, stored.state):
        history, _ = start.history.merge([newest], checkpoint.config.window)
        (encoded,) = engine.encode([EncodeJob(start, history, NOW_S)])
        assert encoded.live is not None
        logits = engine.score([Microbatch(encoded.live, torch.arange(20))])[0]
        scores.append((encoded.num_reused, engine.retrieve(encoded.live), logits))
    (reused, *before), (reused_after, *after) = scores
    assert reused == reused_after
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_header_tells_what_the_state_is(
    engine: Engine, checkpoint: Checkpoint, codec: StateCodec
) -> None:
    header = codec.encode("alice", make_state(engine, checkpoint, 14), 4, LINEAGE).header
    config = checkpoint.config
    assert (header.version, header.fingerprint) == (4, FINGERPRINT)
    assert (header.anchor, header.num_events, header.num_final) == (6, 8, 7)
    shape = (header.num_layers, header.num_heads, header.qk_dim, header.v_dim)
    assert shape == (config.num_layers, config.num_heads, config.qk_dim, config.v_dim)


@pytest.mark.parametrize(("count", "appended"), [(0, 1), (1, 1), (2, 1), (3, 4), (11, 1)])
def test_an_append_touches_only_the_tail_of_the_payload(
    engine: Engine, checkpoint: Checkpoint, codec: StateCodec, count: int, appended: int
) -> None:
    state = make_state(engine, checkpoint, count)
    history = history_of(checkpoint, make_events(count + appended))
    longer = engine.encode([EncodeJob(state, history)])[0].state
    before, after = (bytes(codec.encode("alice", s, 1, LINEAGE).payload) for s in (state, longer))
    assert len(after) > len(before)
    assert after.startswith(before)


def test_documented_layout(engine: Engine, checkpoint: Checkpoint, exact: StateCodec) -> None:
    """Stored states outlive the code: another layout takes a new format version."""
    state = make_state(engine, checkpoint, 3)
    config = checkpoint.config
    width = config.num_layers * config.num_heads * (config.qk_dim + config.v_dim)
    event = [("item", "<i4"), ("action", "<i4"), ("timestamp", "<i8")]
    payload = bytes(exact.encode("alice", state, 1, LINEAGE).payload)
    rows = np.frombuffer(payload, np.dtype([("event", event), ("kv", "<f4", (width,))]), 2)
    pending = np.frombuffer(payload, np.dtype(event), offset=rows.nbytes)
    assert [*rows["event"].tolist(), *pending.tolist()] == state.history.events
    for row, kv in enumerate(rows["kv"]):
        layers = [
            torch.cat((state.keys[layer, :, row].flatten(), state.values[layer, :, row].flatten()))
            for layer in range(config.num_layers)
        ]
        assert kv.tolist() == torch.cat(layers).tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"num_layers": 1},
        {"num_heads": 1},
        {"qk_dim": 6, "v_dim": 4},
        {"num_heads": 4, "qk_dim": 2, "v_dim": 3},
        {"num_layers": 4, "qk_dim": 2, "v_dim": 3},
        {"num_events": 4},
        {"num_events": 0, "num_final": 0},
        {"num_final": 5},
        {"num_final": 3},
        {"num_events": 2**32 - 1, "num_final": 2**32 - 2},
        {"prefix_hash": bytes(16)},
    ],
    ids=str,
)
def test_a_header_that_tells_another_state_is_none(
    codec: StateCodec, entry: Entry, change: dict[str, Any]
) -> None:
    assert codec.decode(entry) is not None
    assert codec.decode(Entry(replace(entry.header, **change), entry.payload)) is None


def test_a_header_that_tells_another_dtype_is_none(codec: StateCodec, entry: Entry) -> None:
    assert entry.header.dtype is codec.dtype
    for other in set(Dtype) - {codec.dtype}:
        assert codec.decode(Entry(replace(entry.header, dtype=other), entry.payload)) is None


def test_every_flipped_bit_and_every_truncation_is_a_miss(codec: StateCodec, entry: Entry) -> None:
    key, value = codec.key("alice"), entry.value()
    assert read_entry(value, key) == entry
    for bit in range(8 * len(value)):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        assert read_entry(flipped, key) is None, f"bit {bit}"
    for length in range(len(value)):
        assert read_entry(value[:length], key) is None, f"{length} bytes"


@given(
    num_events=st.integers(0, 2**32 - 1),
    num_final=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=400),
)
def test_any_payload_is_none_and_never_an_error(
    codec: StateCodec, entry: Entry, num_events: int, num_final: int, payload: bytes
) -> None:
    header = replace(
        entry.header,
        num_events=num_events,
        num_final=num_final,
        payload_bytes=len(payload),
        payload_crc32=zlib.crc32(payload),
    )
    assert codec.decode(Entry(header, payload)) is None


@pytest.mark.parametrize(
    "event", [Event(60, 1, 5), Event(-1, 1, 5), Event(1, 4, 5), Event(1, -1, 5)]
)
@pytest.mark.parametrize("pending", [True, False])
def test_an_event_out_of_the_vocabulary_is_none(
    engine: Engine, checkpoint: Checkpoint, codec: StateCodec, event: Event, pending: bool
) -> None:
    """As another program would write it: hash, lengths and checksums are sound."""
    state = make_state(engine, checkpoint, 2)
    events = state.history.events
    events[-1 if pending else 0] = event
    foreign = replace(state, history=History.of(events))
    assert codec.decode(codec.encode("alice", foreign, 1, LINEAGE)) is None


def test_more_events_than_the_window_holds_are_none(checkpoint: Checkpoint, entry: Entry) -> None:
    config = checkpoint.config
    narrow = config.model_copy(update={"window": Window(capacity=4, keep=2)})
    assert StateCodec(narrow, FINGERPRINT, PagePool(narrow)).decode(entry) is None
    enough = config.model_copy(update={"window": Window(capacity=5, keep=2)})
    assert StateCodec(enough, FINGERPRINT, PagePool(enough)).decode(entry) is not None


def test_the_decoded_state_does_not_share_the_stores_buffer(
    codec: StateCodec, entry: Entry
) -> None:
    buffer = bytearray(entry.payload)
    found = codec.decode(Entry(entry.header, memoryview(buffer)))
    assert found is not None
    keys, events = found.state.keys.clone(), found.state.history.events
    buffer[:] = bytes(len(buffer))
    assert torch.equal(found.state.keys, keys)
    assert found.state.history.events == events


def test_a_state_of_a_model_whose_rows_change_holds_the_events_alone() -> None:
    """Positions counted from the end move with every append: nothing but the events is reusable."""
    config = rectools(9, max_length=6, d_model=8, num_layers=2, qk_dim=4, v_dim=4)
    engine = Engine(HSTU(config))
    codec = StateCodec(config, FINGERPRINT, PagePool(config))
    history = History.of([Event(item, 0, 60 * item) for item in range(5)])
    (encoded,) = engine.encode([EncodeJob(engine.empty_state(), history)])
    entry = codec.encode("alice", encoded.state, 1, LINEAGE)
    assert (entry.header.num_events, entry.header.num_final) == (5, 0)
    found = codec.decode(entry)
    assert found is not None
    assert found.state.history.events == history.events
