"""The header's bytes: what goes in comes out, and nothing else comes out."""

import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import HEADER_BYTES, Dtype, Header, read_entry, user_digest
from tests.cache.entries import ALICE, FINGERPRINT, LINEAGE, make_entry


def unsigned(bits: int, least: int = 0) -> st.SearchStrategy[int]:
    return st.integers(least, (1 << bits) - 1)


digests = st.binary(min_size=16, max_size=16)
headers = st.builds(
    Header,
    fingerprint=digests,
    user_digest=digests,
    lineage=digests,
    version=unsigned(64, least=1),
    anchor=unsigned(64),
    num_events=unsigned(32),
    num_final=unsigned(32),
    prefix_hash=digests,
    dtype=st.sampled_from(Dtype),
    num_layers=unsigned(16),
    num_heads=unsigned(16),
    qk_dim=unsigned(16),
    v_dim=unsigned(16),
    payload_bytes=unsigned(64),
    payload_crc32=unsigned(32),
)


@given(header=headers, rest=st.binary(max_size=40))
def test_round_trip(header: Header, rest: bytes) -> None:
    packed = header.pack()
    assert len(packed) == HEADER_BYTES
    for buffer in (packed + rest, bytearray(packed + rest), memoryview(packed + rest)):
        assert Header.unpack(buffer) == header


def test_documented_offsets() -> None:
    """Stored states outlive the code: moving a field takes a new format version."""
    packed = make_entry(ALICE, b"abc", version=9).header.pack()
    assert HEADER_BYTES == 120
    assert packed[:4] == b"MFST"
    assert struct.unpack_from("<HH", packed, 4) == (2, Dtype.FLOAT32)
    assert packed[8:24] == FINGERPRINT
    assert packed[24:40] == user_digest("alice")
    assert packed[40:56] == LINEAGE
    assert packed[56:72] == bytes(16)
    assert struct.unpack_from("<QQQ", packed, 72) == (9, 3, 3)
    assert struct.unpack_from("<IIHHHH", packed, 96) == (7, 6, 2, 4, 16, 32)
    assert struct.unpack_from("<II", packed, 112) == (zlib.crc32(b"abc"), zlib.crc32(packed[:116]))


@given(buffer=st.binary(max_size=300))
def test_foreign_bytes_are_no_header(buffer: bytes) -> None:
    assert Header.unpack(buffer) is None


@pytest.mark.parametrize(
    ("offset", "field"),
    [
        (0, b"MFSX"),
        (4, struct.pack("<H", 1)),
        (6, struct.pack("<H", 99)),
        (72, struct.pack("<Q", 0)),
    ],
    ids=["magic", "format version", "dtype", "state version 0"],
)
def test_well_checksummed_header_of_another_kind_is_none(offset: int, field: bytes) -> None:
    body = bytearray(make_entry(ALICE).header.pack()[:116])
    body[offset : offset + len(field)] = field
    assert Header.unpack(bytes(body) + struct.pack("<I", zlib.crc32(body))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": bytes(15)},
        {"user_digest": bytes(17)},
        {"lineage": bytes(8)},
        {"prefix_hash": b""},
        {"version": 0},
        {"version": 1 << 64},
        {"anchor": -1},
        {"num_events": 1 << 32},
        {"v_dim": 1 << 16},
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(change: dict[str, int | bytes]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=name):
        replace(make_entry(ALICE).header, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("payload", [b"", b"some payload"])
def test_every_flipped_bit_is_a_miss(payload: bytes) -> None:
    value = make_entry(ALICE, payload).value()
    for bit in range(8 * len(value)):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        assert read_entry(flipped, ALICE) is None, f"bit {bit}"


def test_every_truncation_is_a_miss() -> None:
    value = make_entry(ALICE, b"some payload").value()
    for length in range(len(value)):
        assert read_entry(value[:length], ALICE) is None, f"{length} bytes"


@given(first=st.text(), second=st.text())
def test_user_digests_differ_as_users_do(first: str, second: str) -> None:
    assert len(user_digest(first)) == 16
    assert (user_digest(first) == user_digest(second)) == (first == second)


def test_user_digest_takes_lone_surrogates() -> None:
    assert user_digest("\ud800") != user_digest("\udc00")
