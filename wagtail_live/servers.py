"""
What ASGI has no words for, said to the servers that are known: uvicorn, Daphne, hypercorn.

They are known by what their ``send`` belongs to. With another server, or behind a middleware that
wraps ``send``, nothing happens here: what ASGI itself can say is said all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
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
    if isinstance(send, partial) and send.args and hasattr(send.args[0], "sendCloseFrame"):
        send.args[0].sendCloseFrame(code=code, reasonUtf8=reason.encode())
    else:
        await send({"type": "websocket.close", "code": code, "reason": reason})


def abort(send: Send) -> None:
    """
    Drop the TCP connection that ``send`` alone uses, with what waits in it.

    uvicorn and hypercorn wait for a client that does not read, for ever; Daphne gives up by itself.
    """
    transport = _transport(send)
    if transport is not None:
        transport.abort()


def stopping(send: Send) -> Awaitable[Any] | None:
    """Wait for what hypercorn tells its workers instead of a signal; None with other servers."""
    context = getattr(getattr(send, "__self__", None), "context", None)
    terminated = getattr(context, "terminated", None)
    return None if terminated is None else cast("Awaitable[Any]", terminated.wait())


def _transport(send: Send) -> asyncio.WriteTransport | None:
    owner = getattr(send, "__self__", None)
    for _ in range(DEPTH):
        transport = getattr(getattr(owner, "writer", owner), "transport", None)
        if transport is not None:
            return cast("asyncio.WriteTransport", transport)
        owner = getattr(getattr(owner, "send", None), "__self__", None)
    return None
