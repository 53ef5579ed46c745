"""Replies that a command may have, and those that are another command's or no Redis'."""

from typing import Any

import pytest
from redis import exceptions

from cache.redis.replies import require_sound

SLOTS = [[0, 9, [b"host", 1, b"id"], [b"replica", 2, b"id"]], [10, 16383, [None, 3]]]
SOUND: dict[str, list[Any]] = {
    "GET": [None, b"", b"value"],
    "GETEX": [None, memoryview(b"value")],
    "GETRANGE": [None, b"value"],
    "STRLEN": [None, 7],
    "EVAL": [None, 0, 1],
    "TTL": [-2, 7],
    "DBSIZE": [0],
    "INFO": [b"text"],
    "EXEC": [None, [b"OK"], [exceptions.OutOfMemoryError()]],
    "SCAN": [[b"0", []], [b"17", [b"\xff", b"name"]]],
    "SENTINEL": [None, [b"host", b"6379"]],
    "CLUSTER": [[], SLOTS],
    "UNWATCH": [b"OK", 5, None],
}
UNSOUND: dict[str, list[Any]] = {
    "GET": [5, [b"value"]],
    "GETEX": [5, [b"value"]],
    "GETRANGE": [5, [b"value"]],
    "STRLEN": [b"7", []],
    "EVAL": [b"1", [1]],
    "TTL": [None, b"7"],
    "DBSIZE": [None, []],
    "INFO": [None, 5],
    "EXEC": [5, b"OK", [], [b"OK", b"OK"]],
    "SCAN": [None, [], [b"0"], [b"x", []], [0, []], [b"0", [7]], [b"0", None]],
    "SENTINEL": [b"host", [b"host"], [b"host", 6379], [b"\xff", b"1"], [b"host", b"x"]],
    "CLUSTER": [
        None,
        [[]],
        [[0, 9, []]],
        [[0, 9, [b"host"]]],
        [[0, 9, [b"\xff", 1]]],
        [[0, b"9", [b"host", 1]]],
        [[-1, 9, [b"host", 1]]],
        [[9, 8, [b"host", 1]]],
        [[0, 16384, [b"host", 1]]],
    ],
}


def cases(by_name: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, reply) for name, replies in by_name.items() for reply in replies]


@pytest.mark.parametrize(("name", "reply"), cases(SOUND))
def test_sound_replies_pass(name: str, reply: Any) -> None:
    require_sound(name, reply)


@pytest.mark.parametrize(("name", "reply"), cases(UNSOUND))
def test_another_commands_reply_is_none(name: str, reply: Any) -> None:
    with pytest.raises(exceptions.InvalidResponse, match=f"no answer to {name}"):
        require_sound(name, reply)
