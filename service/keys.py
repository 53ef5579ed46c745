"""Owns which keys are known, each with the name of its client.

Never keeps a key itself, nor quotes one: digests are all that comparing takes.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ANONYMOUS: Final = "anonymous"
"""The client of a request while no keys are set."""

ADMIN: Final = "admin"
"""The client of a request with the admin key."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY: Final = re.compile(r"[!-+\--~]{16,256}")  # visible, and no comma, which separates pairs


class Keys:
    """Known keys. A client may have several, so that one can be replaced without a gap."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        """`pairs`: a client's name and its key."""
        self._known = [(name, _digest(key.encode())) for name, key in pairs]

    def become(self, others: "Keys") -> None:
        """Know those that others know, and no more."""
        self._known = others._known

    def __len__(self) -> int:
        return len(self._known)

    def client(self, key: bytes) -> str | None:
        """Whose key it is. All are looked at, so that the time it takes tells nothing."""
        digest, found = _digest(key), None
        for name, known in self._known:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """Names and keys of `name=key` pairs, separated by commas or line ends; # begins a comment.

    Raises:
        ValueError: some are no pairs; the message tells which by their place, and quotes none.
    """
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    entries = [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]
    pairs = []
    for place, entry in enumerate(entries, 1):
        name, _, key = entry.partition("=")
        if not _NAME.fullmatch(name) or name in (ANONYMOUS, ADMIN):
            raise ValueError(
                f"pair {place}: write name=key, the name of letters, digits, dots, dashes and "
                f"underscores, and not {ANONYMOUS} or {ADMIN}"
            )
        try:
            pairs.append((name, checked(key)))
        except ValueError as error:
            raise ValueError(f"pair {place}: the key {error}") from None
    return pairs


def client_pairs(text: str, path: str = "") -> list[tuple[str, str]]:
    """Those of the text, and of the file if there is one.

    Raises:
        ValueError: either can not be used.
    """
    pairs = parse_pairs(text) + (_read_pairs(path) if path else [])
    if len({key for _, key in pairs}) < len(pairs):
        raise ValueError("a key is there twice: give each client keys of its own")
    return pairs


def _read_pairs(path: str) -> list[tuple[str, str]]:
    try:
        text = Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise ValueError(f"{path} can not be read: {what}") from None
    pairs = parse_pairs(text)
    if not pairs:
        raise ValueError(f"{path} holds no name=key pair; without the setting all are let in")
    return pairs


def checked(key: str) -> str:
    """The key, if it is one.

    Raises:
        ValueError: it is not; the message does not quote it.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(
            "is 16 to 256 visible ASCII characters and no comma, as `openssl rand -hex 32` makes"
        )
    return key


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
