"""An event stream in this process, byte for byte, and as events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, Self
from urllib.parse import urlencode

from wagtail_live.sse import live_events

OWN = (b"origin", b"http://localhost")


class Stream:
    """
    One request to the endpoint: its status, its headers, its events.

    ``reads`` is whether the client reads: while it is clear, the server's ``send`` waits.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any] | str = "",
        *,
        body: Any = None,
        method: str = "",
        host: str = "localhost",
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        query = parameters if isinstance(parameters, str) else urlencode(parameters)
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method or ("GET" if body is None else "POST"),
            "scheme": "http",
            "path": "/live/events/",
            "query_string": query.encode(),
            "headers": [(b"host", host.encode()), *headers],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
        }
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw = b""
        self.complete = False
        self.more_body = False
        self.reads = asyncio.Event()
        self.reads.set()
        self._read = 0
        self._to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._arrived = asyncio.Event()

    def start(self) -> None:
        request = {"type": "http.request", "body": self.body, "more_body": self.more_body}
        self._to_server.put_nowait(request)
        self.application = asyncio.create_task(
            live_events(self.scope, self._to_server.get, self._take)
        )

    async def __aenter__(self) -> Self:
        self.start()
        await self._until(lambda: self.status != 0)
        return self

    async def __aexit__(self, *details: object) -> None:
        self.leave()
        await self.application

    def leave(self) -> None:
        self._to_server.put_nowait({"type": "http.disconnect"})

    @property
    def lines(self) -> list[str]:
        """What has come, in blocks that end with an empty line."""
        return self.raw.decode().split("\n\n")[:-1]

    @property
    def answer(self) -> Any:
        """The JSON of an answer that is no stream."""
        return json.loads(self.raw)

    async def block(self) -> str:
        """Return the next block."""
        await self._until(lambda: len(self.lines) > self._read)
        self._read += 1
        return self.lines[self._read - 1]

    async def hear(self) -> tuple[str, str]:
        """Return the next event: its id, or nothing, and its data."""
        while (block := await self.block()).startswith((":", "retry:")):
            pass
        found = dict(line.split(": ", 1) for line in block.split("\n"))
        return found.get("id", ""), found["data"]

    async def frame(self) -> Any:
        """Return the next frame."""
        return json.loads((await self.hear())[1])

    def unread(self) -> list[Any]:
        """Return the frames that have come and were not read."""
        blocks, self._read = self.lines[self._read :], len(self.lines)
        return [
            json.loads(block.split("data: ", 1)[1])
            for block in blocks
            if not block.startswith((":", "retry:"))
        ]

    async def until_complete(self) -> None:
        await self._until(lambda: self.complete)

    async def _until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()

    async def _take(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.raw += message.get("body", b"")
            self.complete = not message.get("more_body", False)
        self._arrived.set()
