"""
What ASGI has no words for, said to the servers that are known: uvicorn, Daphne, hypercorn.

They are known by what their ``send`` belongs to. With another server, or behind a middleware that
wraps ``send``, nothing happens here: what ASGI itself can say is said all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, cast

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: So many objects lie before the transport at most (hypercorn: stream, protocol, TCP server).
DEPTH = 4


async def close(send: Send, code: int, reason: str) -> None:
    """
    Close a WebSocket.

    Daphne refuses codes below 3000 other than 1000, and drops the reason, unless its own protocol
    object is told.
    """
    protocol = _daphne_protocol(send)
    if protocol is not None:
        protocol.sendCloseFrame(code=code, reasonUtf8=reason.encode())
    else:
        await send({"type": "websocket.close", "code": code, "reason": reason})


async def refuse(
    scope: Mapping[str, Any],
    send: Send,
    status: int,
    text: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """
    Refuse a WebSocket before it begins, with ``status`` and the JSON ``text``.

    A server without the extension for this answers 403, and says nothing.
    """
    if "websocket.http.response" not in (scope.get("extensions") or ()):
        await send({"type": "websocket.close"})
        return
    said = {"content-type": "application/json", "cache-control": "no-store", **(headers or {})}
    start = {
        "type": "websocket.http.response.start",
        "status": status,
        "headers": [(name.lower().encode(), value.encode()) for name, value in said.items()],
    }
    await send(start)
    await send({"type": "websocket.http.response.body", "body": text.encode()})


def abort(send: Send) -> None:
    """
    Drop the TCP connection that ``send`` alone uses, with what waits in it.

    uvicorn and hypercorn wait for a client that does not read, for ever; Daphne does for a minute.
    """
    protocol = _daphne_protocol(send)
    if protocol is not None and protocol.transport is not None:
        protocol.transport.abortConnection()
        return
    transport = _transport(send)
    if transport is not None:
        transport.abort()


def paced(send: Send) -> Send:
    """
    Return ``send``, which waits while the client does not read: Daphne's own takes everything.

    An HTTP response must be ended through what is returned, if it is ended.
    """
    protocol = _daphne_protocol(send)
    if protocol is None or getattr(protocol, "channel", protocol) is None:  # it is gone already
        return send
    return _Paced(send, protocol)


class _Paced:
    """Hears from Twisted when its buffer is full, as a push producer (IPushProducer)."""

    def __init__(self, send: Send, protocol: Any) -> None:
        self._send = send
        self._protocol = protocol
        self._free = asyncio.Event()
        self._free.set()
        if hasattr(protocol, "sendMessage"):
            # A WebSocket: until now its transport speaks to what has read the handshake.
            protocol.unregisterProducer()
        protocol.registerProducer(self, True)

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        await self._free.wait()
        ends = message["type"] == "http.response.body" and not message.get("more_body", False)
        if ends and getattr(self._protocol, "channel", None) is not None:
            self._protocol.unregisterProducer()
        await self._send(message)

    def pauseProducing(self) -> None:
        self._free.clear()

    def resumeProducing(self) -> None:
        self._free.set()

    def stopProducing(self) -> None:
        self._free.set()


def stopping(send: Send) -> Awaitable[Any] | None:
    """Wait for what hypercorn tells its workers instead of a signal; None with other servers."""
    context = getattr(getattr(send, "__self__", None), "context", None)
    terminated = getattr(context, "terminated", None)
    return None if terminated is None else cast("Awaitable[Any]", terminated.wait())


def _daphne_protocol(send: Send) -> Any:
    """Return Daphne's object for the WebSocket or the request; None with other servers."""
    if isinstance(send, partial) and send.args and hasattr(send.args[0], "handle_reply"):
        return send.args[0]
    return None


def _transport(send: Send) -> asyncio.WriteTransport | None:
    owner = getattr(send, "__self__", None)
    for _ in range(DEPTH):
        transport = getattr(getattr(owner, "writer", owner), "transport", None)
        if transport is not None:
            return cast("asyncio.WriteTransport", transport)
        owner = getattr(getattr(owner, "send", None), "__self__", None)
    return None
