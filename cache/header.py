"""Owns the fixed binary header before every stored state. Never looks into the payload.

Little-endian, `HEADER_BYTES` long:

    offset  size  field
         0     4  magic "MFST"
         4     2  format version, 2
         6     2  dtype of the payload
         8    16  fingerprint of config, weights and item vocabulary
        24    16  user digest
        40    16  lineage: random, drawn when the key was begun
        56    16  prefix hash over the events
        72     8  state version within the lineage, from 1
        80     8  anchor: the user's events before the window
        88     8  payload length in bytes
        96     4  number of events
       100     4  number of final rows, those with K and V
       104     2  layers
       106     2  heads
       108     2  query and key size per head
       110     2  value size per head
       112     4  crc32 of the payload
       116     4  crc32 of the 116 bytes before it

Before the first version a key holds its lineage alone, the bare `LINEAGE_BYTES`.
"""

import secrets
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Final, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

_MAGIC: Final = b"MFST"
_FORMAT_VERSION: Final = 2
_BODY: Final = struct.Struct("<4sHH16s16s16s16sQQQIIHHHHI")
_CRC: Final = struct.Struct("<I")

HEADER_BYTES: Final = _BODY.size + _CRC.size
DIGEST_BYTES: Final = 16
LINEAGE_BYTES: Final = DIGEST_BYTES

_DIGESTS: Final = ("fingerprint", "user_digest", "lineage", "prefix_hash")
_INTEGER_BITS: Final = {
    "version": 64,
    "anchor": 64,
    "payload_bytes": 64,
    "num_events": 32,
    "num_final": 32,
    "payload_crc32": 32,
    "num_layers": 16,
    "num_heads": 16,
    "qk_dim": 16,
    "v_dim": 16,
}


class Dtype(IntEnum):
    """Number format of the payload, by its code in the header."""

    FLOAT32 = 1
    BFLOAT16 = 2
    INT8 = 3

    @property
    def label(self) -> str:
        """As settings and answers name it."""
        return self.name.lower()

    @classmethod
    def named(cls, label: str) -> "Dtype":
        return cls[label.upper()]


def user_digest(user_id: str) -> bytes:
    """16 bytes that stand for the user; any string will do, lone surrogates included."""
    return blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def new_lineage() -> bytes:
    """`LINEAGE_BYTES` that nobody draws again."""
    return secrets.token_bytes(LINEAGE_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a state is and whose. Raises ValueError for a value its field cannot hold."""

    fingerprint: bytes
    user_digest: bytes
    lineage: bytes
    version: int
    anchor: int
    num_events: int
    num_final: int
    prefix_hash: bytes
    dtype: Dtype
    num_layers: int
    num_heads: int
    qk_dim: int
    v_dim: int
    payload_bytes: int
    payload_crc32: int

    def __post_init__(self) -> None:
        for name in _DIGESTS:
            if len(getattr(self, name)) != DIGEST_BYTES:
                raise ValueError(f"{name} must be {DIGEST_BYTES} bytes long")
        for name, bits in _INTEGER_BITS.items():
            if not 0 <= getattr(self, name) < 1 << bits:
                raise ValueError(f"{name} must fit an unsigned {bits}-bit integer")
        if self.version == 0:
            raise ValueError("version starts at 1")

    def pack(self) -> bytes:
        """The `HEADER_BYTES` that `unpack` reads."""
        body = _BODY.pack(
            _MAGIC,
            _FORMAT_VERSION,
            self.dtype,
            self.fingerprint,
            self.user_digest,
            self.lineage,
            self.prefix_hash,
            self.version,
            self.anchor,
            self.payload_bytes,
            self.num_events,
            self.num_final,
            self.num_layers,
            self.num_heads,
            self.qk_dim,
            self.v_dim,
            self.payload_crc32,
        )
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def unpack(cls, buffer: Buffer) -> "Header | None":
        """The header at the start of `buffer`, whatever follows it.

        None if it is short, corrupt, or of a format or dtype not known here; never raises.
        """
        if len(buffer) < HEADER_BYTES:
            return None
        body = bytes(buffer[: _BODY.size])
        (crc32,) = _CRC.unpack_from(buffer, _BODY.size)
        magic, format_version, dtype, *fields = _BODY.unpack(body)
        if magic != _MAGIC or format_version != _FORMAT_VERSION or crc32 != zlib.crc32(body):
            return None
        fingerprint, owner, lineage, prefix_hash, version, anchor, payload_bytes, *counts = fields
        num_events, num_final, num_layers, num_heads, qk_dim, v_dim, payload_crc32 = counts
        try:
            return cls(
                fingerprint=fingerprint,
                user_digest=owner,
                lineage=lineage,
                version=version,
                anchor=anchor,
                num_events=num_events,
                num_final=num_final,
                prefix_hash=prefix_hash,
                dtype=Dtype(dtype),
                num_layers=num_layers,
                num_heads=num_heads,
                qk_dim=qk_dim,
                v_dim=v_dim,
                payload_bytes=payload_bytes,
                payload_crc32=payload_crc32,
            )
        except ValueError:
            return None
