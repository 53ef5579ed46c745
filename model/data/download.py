"""Owns fetching a public file: the whole file that its checksum names, or nothing.

Never leaves part of a file and never prints. A file is renamed into place once its sha256 is right.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx

from model.data.errors import DataError
from model.data.public import PublicFile

Progress = Callable[[int, int | None], None]
"""Called with the bytes fetched so far, and the total where the server told it."""

_TIMEOUT_S = 30.0
"""To connect, and between two parts of the answer."""
_CHUNK_BYTES = 1 << 16


def fetch(
    file: PublicFile, target: Path, *, download: bool = True, progress: Progress | None = None
) -> None:
    """
    Raises:
        DataError: not fetched; names the address, where to put the file and the way around.
    """
    try:
        if not download:
            raise _Refused("downloads are off")
        if file.sha256 is None:
            raise _Refused("its owners publish no checksum to verify it by")
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(file, file.sha256, target, progress)
    except (_Refused, httpx.HTTPError, OSError) as error:
        raise DataError(
            f"{file.address} was not fetched: {error or type(error).__name__}; get it by hand and "
            f"put it at {target}, or pass the path of your copy with --data PATH"
        ) from error


class _Refused(Exception):
    """What was asked for, or what the server sent, is not to be used."""


def _fetch(file: PublicFile, sha256: str, target: Path, progress: Progress | None) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as temporary:
            found = _stream(file, temporary, progress)
        if found != sha256:
            raise _Refused(f"its sha256 is {found} instead of {sha256}")
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _stream(file: PublicFile, into: IO[bytes], progress: Progress | None) -> str:
    """sha256 of what was written."""
    digest, size = hashlib.sha256(), 0
    headers = {"Accept-Encoding": "identity"}
    hooks = {"request": [_require_https]}
    with (
        httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S, event_hooks=hooks) as client,
        client.stream("GET", file.address, headers=headers) as response,
    ):
        response.raise_for_status()
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        for chunk in response.iter_raw(_CHUNK_BYTES):
            size += len(chunk)
            if max(size, total or 0) > file.max_bytes:
                raise _Refused(f"it is larger than {file.max_bytes} bytes")
            digest.update(chunk)
            into.write(chunk)
            if progress:
                progress(size, total)
    return digest.hexdigest()


def _require_https(request: httpx.Request) -> None:
    """Also of where a redirect leads; what stays on this host may do without."""
    if request.url.scheme != "https" and request.url.host not in ("127.0.0.1", "localhost"):
        raise _Refused(f"{request.url} is not https")
