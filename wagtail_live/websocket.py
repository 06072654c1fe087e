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
from functools import partial
from typing import Any

from wagtail_live import goodbye, handshake, limits, protocol, relay, servers
from wagtail_live.conf import settings
from wagtail_live.counts import counts
from wagtail_live.exceptions import InvalidPayload, TooManyConnections
from wagtail_live.outbox import Outbox
from wagtail_live.protocol import CloseCode
from wagtail_live.session import Session

logger = logging.getLogger("wagtail_live")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: How long a close frame may take, and then its answer, before the connection is dropped.
CLOSE_SECONDS = 1.0


async def live_socket(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application that speaks the protocol; mount it at ``/websocket``."""
    await receive()
    request = handshake.http_request(scope)
    if request is None:
        await send({"type": "websocket.close", "code": 4403})
        return
    try:
        protocol.refuse_secrets(request.META["QUERY_STRING"])
    except InvalidPayload as problem:
        await servers.refuse(scope, send, problem.status, protocol.error(None, problem))
        return
    most = settings.max_connections_per_address
    with limits.addresses.one(handshake.address(request), most) as free:
        if not free:
            refused = TooManyConnections()
            body = protocol.error(None, refused)
            await servers.refuse(scope, send, refused.status, body, limits.AGAIN)
            return
        await send({"type": "websocket.accept"})
        # In HTTP/2 the connection is not this client's alone.
        await _Connection(receive, send, alone=scope.get("http_version") != "2").talk(request)


class _Connection:
    def __init__(self, receive: Receive, send: Send, *, alone: bool) -> None:
        self._receive = receive
        self._send = send
        self._send_paced = servers.paced(send)
        self._alone = alone
        self._talking: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._dropped = False

    async def talk(self, request: Any) -> None:
        """Hold the conversation to its end, and close what was not closed."""
        self._talking = asyncio.current_task()
        try:
            with goodbye.told(partial(self.hang_up, CloseCode.SERVICE_RESTART), self._send):
                await self._converse(request)
        except asyncio.CancelledError:
            if self._dropped:
                return
            self.hang_up(CloseCode.SERVICE_RESTART)
            await self._part()
            raise
        except Exception:
            logger.exception("a connection failed")
            self.hang_up(CloseCode.INTERNAL)
            await self._part()
        finally:
            self._talking = None

    def hang_up(self, code: CloseCode) -> None:
        """Close with ``code``; a client that does not read is left after a moment."""
        if self._closing is None:
            logger.info("a connection is closed: %d %s", code, code.name)
            counts.cut[code.name] += 1
            self._closing = asyncio.create_task(self._close(code))

    async def _converse(self, request: Any) -> None:
        outbox = Outbox(
            self._send_text,
            max_bytes=settings.max_buffer_bytes,
            overflow=lambda: self.hang_up(CloseCode.SLOW_CONSUMER),
            ping=protocol.PING,
        )
        session = Session(request, relay.current(), outbox, self.hang_up)
        try:
            while (message := await self._receive())["type"] != "websocket.disconnect":
                if self._closing is None:
                    self._take(message, session)
        finally:
            session.close()

    def _take(self, message: Message, session: Session) -> None:
        if len(message.get("bytes") or b"") > settings.max_message_bytes:
            self.hang_up(CloseCode.TOO_LARGE)
        else:
            session.receive(message.get("text"))

    async def _part(self) -> None:
        """Give the close frame the time that it needs when the server would not wait for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while (await self._receive())["type"] != "websocket.disconnect":
                    pass

    async def _close(self, code: CloseCode) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await servers.close(self._send, int(code), code.name)
        except Exception as error:  # the client reads nothing, or has gone
            logger.debug("a close frame was not sent: %r", error)
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._drop)

    def _drop(self) -> None:
        self._dropped = True
        if self._alone:
            servers.abort(self._send)
        if self._talking is not None:
            self._talking.cancel()

    async def _send_text(self, text: str) -> None:
        await self._send_paced({"type": "websocket.send", "text": text})
