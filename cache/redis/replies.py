"""Owns what a server may answer to a command. Never sends one.

What answers otherwise is no Redis, or out of step. Told here, so that whoever reads a reply can
rely on its shape: what fails then is a bug of ours.
"""

from typing import Any

from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from cache.header import Buffer


def require_sound(name: str, reply: Any) -> None:
    """Raises redis-py's InvalidResponse for a reply that the command never has.

    Of those that are looked at: for some it is enough that they are no error.
    """
    if not _is_sound(name, reply):
        raise exceptions.InvalidResponse(f"no answer to {name}: {str(reply)[:50]}")


def _is_sound(name: str, reply: Any) -> bool:
    match name:
        case "GET" | "GETEX" | "GETRANGE":
            return reply is None or isinstance(reply, Buffer)
        case "STRLEN" | "EVAL":
            return reply is None or isinstance(reply, int)
        case "TTL" | "DBSIZE":
            return isinstance(reply, int)
        case "INFO":
            return isinstance(reply, bytes)
        case "EXEC":
            return reply is None or (isinstance(reply, list) and len(reply) == 1)
        case "SCAN":
            return _is_scan_step(reply)
        case "SENTINEL":
            return reply is None or _is_address(reply)
        case "CLUSTER":
            return isinstance(reply, list) and all(map(_is_slot_range, reply))
    return True


def _is_scan_step(reply: Any) -> bool:
    match reply:
        case [bytes(cursor), list(names)]:
            return cursor.isdigit() and all(isinstance(name, bytes) for name in names)
    return False


def _is_address(reply: Any) -> bool:
    match reply:
        case [bytes(host), bytes(port)]:
            return host.isascii() and port.isdigit()
    return False


def _is_slot_range(reply: Any) -> bool:
    match reply:
        case [int(first), int(last), [bytes() | None as host, int(), *_], *_]:
            return 0 <= first <= last < REDIS_CLUSTER_HASH_SLOTS and (host or b"").isascii()
    return False
