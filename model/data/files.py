"""Owns what a file is by its content, and unpacking gzip within a bound.

Never reads rows.
"""

import gzip
import zlib
from pathlib import Path
from typing import Literal

from model.data.errors import DataError

Kind = Literal["zip", "parquet", "gzip", "text"]

MAX_UNPACKED_BYTES = 8 << 30
_CHUNK_BYTES = 1 << 20
_MARKS: dict[bytes, Kind] = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without members
    b"PAR1": "parquet",
    b"\x1f\x8b": "gzip",
}
_SUFFIXES: dict[str, Kind] = {".zip": "zip", ".parquet": "parquet", ".gz": "gzip"}


def kind_of(path: Path) -> Kind:
    """
    Raises:
        DataError: a folder, unreadable, empty, or not what its name says.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; pass one file: the archive or the table itself")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file; pass the path of one")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} can not be read: {error.strerror}; check who may") from error
    if not start:
        raise DataError(f"{path} is empty; it needs a header and one row per event")
    kind: Kind = next((kind for mark, kind in _MARKS.items() if start.startswith(mark)), "text")
    named = _SUFFIXES.get(path.suffix.lower(), kind)
    if kind == "text" and named != kind:
        raise DataError(f"{path} is damaged: it is named as {named} but holds something else")
    return kind


def unpack(path: Path) -> bytes:
    """
    Raises:
        DataError: damaged, cut short, or more than MAX_UNPACKED_BYTES.
    """
    chunks, size = [], 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_UNPACKED_BYTES:
                    raise DataError(
                        f"{path} unpacks to more than {MAX_UNPACKED_BYTES} bytes, too large; pass "
                        "a part of it"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is not a readable gzip file: {error}; it may be cut short, get it again"
        ) from error
    if not size:
        raise DataError(f"{path} is empty once unpacked; it needs a header and one row per event")
    return b"".join(chunks)
