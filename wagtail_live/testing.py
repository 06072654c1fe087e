"""
What a site's own tests need: a client that speaks the protocol to the application in this process.

No server and no socket: the ASGI application is called directly, on the test's event loop. The
database must be one that other threads see (``django_db(transaction=True)``; for SQLite a file).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from wagtail_live.websocket import live_socket

Frame = dict[str, Any]


class Refused(Exception):
    """The handshake was refused: no frame was exchanged."""


class Closed(Exception):
    """The server closed the connection, with ``code`` and ``reason``."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"closed with {code} {reason}".rstrip())


class LiveClient:
    """
    One connection::

        async with LiveClient(cookies={"sessionid": key}) as client:
            init = await client.subscribe("pages", {"type": "blog.BlogPage"})
            ...
            frame = await client.hear()

    ``origin`` is the browser's header, by default the site's own; None is a client that is no
    browser. Heartbeats are answered unless ``answer_pings`` is False, and then they are frames as
    any other. Raises ``Refused`` on entering when the handshake is refused.
    """

    def __init__(
        self,
        *,
        host: str = "localhost",
        origin: str | None = "http://localhost",
        cookies: Mapping[str, str] | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
        answer_pings: bool = True,
    ) -> None:
        self._answer_pings = answer_pings
        self._headers = [(b"host", host.encode()), *headers]
        if origin is not None:
            self._headers.append((b"origin", origin.encode()))
        if cookies:
            pairs = "; ".join(f"{name}={value}" for name, value in cookies.items())
            self._headers.append((b"cookie", pairs.encode()))
        self._to_server: asyncio.Queue[Frame] = asyncio.Queue()
        self._to_client: asyncio.Queue[Frame] = asyncio.Queue()
        self._application: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": "/websocket",
            "query_string": b"",
            "headers": self._headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
            "subprotocols": [],
        }
        self._application = asyncio.create_task(
            live_socket(
                scope,
                self._to_server.get,
                self._to_client.put,  # type: ignore[arg-type]  # it sends nothing but dicts
            )
        )
        self._to_server.put_nowait({"type": "websocket.connect"})
        answer = await self._to_client.get()
        if answer["type"] != "websocket.accept":
            raise Refused
        return self

    async def __aexit__(self, *details: object) -> None:
        self._to_server.put_nowait({"type": "websocket.disconnect", "code": 1000})
        if self._application is not None:
            await self._application

    def say(self, frame: Mapping[str, Any] | str | bytes) -> None:
        """Send a frame; text goes as it is, bytes as a binary frame."""
        message: Frame = {"type": "websocket.receive"}
        if isinstance(frame, bytes):
            message["bytes"] = frame
        else:
            message["text"] = frame if isinstance(frame, str) else json.dumps(frame)
        self._to_server.put_nowait(message)

    async def hear(self, *, seconds: float = 10.0) -> Frame:
        """Return the next frame; raise ``Closed``, or ``TimeoutError`` after ``seconds``."""
        while True:
            async with asyncio.timeout(seconds):
                message = await self._to_client.get()
            if message["type"] == "websocket.close":
                raise Closed(message["code"], message["reason"])
            frame: Frame = json.loads(message["text"])
            if not self._answer_pings or frame["type"] != "ping":
                return frame
            self.say({"type": "pong"})

    async def subscribe(
        self, collection: str, query: Mapping[str, Any] | str | None = None, **fields: Any
    ) -> Frame:
        """Subscribe and return the first answer: ``init``, ``resume`` or an error."""
        self.say({"type": "subscribe", "collection": collection, "query": query or {}, **fields})
        return await self.hear()

    async def unheard(self) -> list[Frame]:
        """Return all frames up to now: a ``ping`` is the mark, what comes before it was sent."""
        self.say({"type": "ping", "uid": "unheard"})
        frames: list[Frame] = []
        while (frame := await self.hear()) != {"type": "pong", "uid": "unheard"}:
            frames.append(frame)
        return frames
