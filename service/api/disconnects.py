"""Owns giving up a request whose client has gone, so that it never reaches the engine.

Never gives up what is being written: a write that has begun ends, and the user's turn with it. Pure
ASGI: nothing here buffers an answer.
"""

import asyncio
import contextlib
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WATCHED: Final = "/recommend"
"""And what is below it. Events are facts: they are stored whoever waits for it."""


class Disconnects:
    """Cancels the handler when the client goes before the answer begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_WATCHED):
            await self._app(scope, receive, send)
            return
        watch = _Watch(receive, send)
        try:
            await self._app(scope, watch.receive, watch.send)
        except asyncio.CancelledError:
            if not watch.is_gone:
                raise
            watch.handler.uncancel()
        finally:
            watch.end()


class _Watch:
    """From the last byte of the request to the first of the answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self.handler, self.is_gone = handler, False
        self._receive, self._send = receive, send
        self._task: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        if self._task is not None:  # Only one may listen; there is nothing more to come.
            await asyncio.shield(self._task)
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self._task = asyncio.create_task(self._listen())
        return message

    async def send(self, message: Message) -> None:
        # Not later: a server tells a disconnect at the end of every answer, too.
        self.end()
        await self._send(message)

    def end(self) -> None:
        """Its task is let go of: one that was cancelled holds whoever waited in it, and what holds
        itself is freed only by the garbage collector, which stops everything for a while."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _listen(self) -> None:
        # A server that breaks here breaks its handler as well.
        with contextlib.suppress(Exception):
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.is_gone = True
            self.handler.cancel()
