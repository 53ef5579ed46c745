"""Owns the names of stored states. Never opens one."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from cache.header import DIGEST_BYTES

_NAME: Final = re.compile(r"mf:\{([^{}]*)\}:([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class StateKey:
    """One user's state under one model. Raises ValueError unless the fingerprint is 16 bytes."""

    user_id: str
    fingerprint: bytes

    def __post_init__(self) -> None:
        if len(self.fingerprint) != DIGEST_BYTES:
            raise ValueError(f"fingerprint must be {DIGEST_BYTES} bytes long")

    @classmethod
    def parse(cls, name: bytes) -> "StateKey | None":
        """The key of that name; None for a name that no key has. Never raises."""
        try:
            text = name.decode("ascii")
            found = _NAME.fullmatch(text)
            user_id = unquote(found[1], errors="surrogatepass") if found else ""
        except UnicodeDecodeError:
            return None
        key = cls(user_id, bytes.fromhex(found[2])) if found else None
        return key if key and key.name == text else None

    @property
    def name(self) -> str:
        """`mf:{user}:fingerprint` in printable ASCII; different keys have different names.

        The braces are the Redis Cluster hash tag, so all of a user's keys share a slot. The
        user id is percent-encoded: none of its characters can end the tag or the field.
        """
        return f"{_prefix(self.user_id)}{self.fingerprint.hex()}"

    @staticmethod
    def pattern_of(user_id: str) -> str:
        """What the names of the user's states match, whatever the model, and no other user's.

        Percent-encoding leaves none of the characters that a pattern gives a meaning. A name of the
        same hash slot as theirs.
        """
        return f"{_prefix(user_id)}*"

    @staticmethod
    def pattern_of_all() -> str:
        """What the names of all states match."""
        return "mf:{*}:*"


def _prefix(user_id: str) -> str:
    return f"mf:{{{quote(user_id, safe='', errors='surrogatepass')}}}:"
