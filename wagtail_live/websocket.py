"""
A session on a WebSocket: plain ASGI, no consumer.

Channels' ``AsyncConsumer`` sends every message through the process's one thread-sensitive thread,
and with a channel layer costs tasks per socket; here neither is on the path of a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from wagtail_live import handshake, relay
from wagtail_live.conf import settings
from wagtail_live.outbox import Outbox
from wagtail_live.protocol import CloseCode
from wagtail_live.session import Session

logger = logging.getLogger("wagtail_live")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: How long a close frame may take to a client that does not read.
CLOSE_SECONDS = 1.0


async def live_socket(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application that speaks the protocol; mount it at ``/websocket``."""
    await receive()
    request = handshake.http_request(scope)
    if request is None:
        await send({"type": "websocket.close", "code": 4403})
        return
    await send({"type": "websocket.accept"})
    await _Connection(receive, send).talk(request)


class _Connection:
    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._talking = asyncio.current_task()
        self._closing: asyncio.Task[None] | None = None

    async def talk(self, request: Any) -> None:
        outbox = Outbox(
            self._send_text,
            max_bytes=settings.max_buffer_bytes,
            overflow=lambda: self.hang_up(CloseCode.SLOW_CONSUMER),
        )
        session = Session(request, relay.current(), outbox, self.hang_up)
        try:
            while (message := await self._receive())["type"] != "websocket.disconnect":
                if self._closing is None:
                    session.receive(message.get("text"))
        except asyncio.CancelledError:
            if self._closing is None:
                raise
        finally:
            session.close()

    def hang_up(self, code: CloseCode) -> None:
        """Close with ``code``; a client that does not read is left after a moment."""
        if self._closing is None:
            logger.info("a connection is closed: %d %s", code, code.name)
            self._closing = asyncio.create_task(self._close(code))

    async def _close(self, code: CloseCode) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send(
                    {"type": "websocket.close", "code": int(code), "reason": code.name}
                )
        if self._talking is not None:
            self._talking.cancel()

    async def _send_text(self, text: str) -> None:
        await self._send({"type": "websocket.send", "text": text})
