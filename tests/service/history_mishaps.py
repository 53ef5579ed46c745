"""Owns the ways in which a history provider misbehaves."""

import threading
from collections.abc import Callable
from typing import Any

from tests.service.history_server import Handler, answer


def hang(_: Handler) -> None:
    threading.Event().wait(5)


def cut_off(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"events": [')
    handler.close_connection = True


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff not HTTP at all\r\n\r\n")
    handler.close_connection = True


def vanish(handler: Handler) -> None:
    handler.close_connection = True


def huge(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def says(status: int, body: Any, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: answer(
        handler, status, body if isinstance(body, bytes) else str(body).encode(), **headers
    )


GOOD = '{"item_id": "i1", "action": "positive", "timestamp": 5}'
BAD_ANSWERS = {
    "500": says(500, "sorry"),
    "401": says(401, "who?"),
    "204": says(204, ""),
    "redirection": says(307, "", Location="http://127.0.0.1:1/elsewhere"),
    "not JSON": says(200, "<html>"),
    "empty": says(200, ""),
    "no UTF-8": says(200, b'{"events": ["\xff"]}'),
    "compressed": says(200, b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
    "a list": says(200, f"[{GOOD}]"),
    "null": says(200, '{"events": null}'),
    "no events": says(200, "{}"),
    "another field": says(200, f'{{"events": [{GOOD}], "total": 1}}'),
    "another field of an event": says(200, f'{{"events": [{GOOD[:-1]}, "rating": 5}}]}}'),
    "a number for an id": says(200, '{"events": [{"item_id": 1, "timestamp": 5}]}'),
    "no timestamp": says(200, f'{{"events": [{GOOD}, {{"item_id": "i1"}}]}}'),
    "milliseconds": says(200, f'{{"events": [{GOOD.replace("5}", "1700000000000}")}]}}'),
    "another action": says(200, f'{{"events": [{GOOD.replace("positive", "bought")}]}}'),
    "deep": says(200, "[" * 100_000),
    "huge": huge,
    "cut off": cut_off,
    "garbage": garbage,
    "no answer": vanish,
}
