"""One query followed by one asker, the same on every transport."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from asgiref.sync import ThreadSensitiveContext
from django.test import AsyncClient

from tests.access.askers import Asker
from tests.live import caught_up
from tests.streams import OWN, Stream
from wagtail_live.testing import Frame, LiveClient


class Following(Protocol):
    """``first`` is the first answer; ``news`` gives what came since, up to now."""

    first: Frame

    async def news(self) -> list[Frame]: ...


Ask = Callable[..., AbstractAsyncContextManager[Following]]


class _Socket:
    def __init__(self, client: LiveClient, first: Frame) -> None:
        self.client = client
        self.first = first

    async def news(self) -> list[Frame]:
        await caught_up()
        return await self.client.unheard()


@asynccontextmanager
async def socket(asker: Asker, collection: str, **asked: Any) -> AsyncIterator[Following]:
    origin = None if asker.token else "http://localhost"
    async with LiveClient(cookies=asker.cookies, headers=asker.headers, origin=origin) as client:
        yield _Socket(client, await client.subscribe(collection, **asked))


class _Stream:
    def __init__(self, stream: Stream, first: Frame) -> None:
        self.stream = stream
        self.first = first

    async def news(self) -> list[Frame]:
        await caught_up()
        return self.stream.unread()


@asynccontextmanager
async def stream(asker: Asker, collection: str, **asked: Any) -> AsyncIterator[Following]:
    async with Stream({"collection": collection, **asked}, headers=_headers(asker)) as following:
        if following.status != 200:
            await following.until_complete()
            yield _Stream(following, following.answer)
        else:
            yield _Stream(following, await following.frame())


class _Feed:
    def __init__(self, asker: Asker, asked: dict[str, Any]) -> None:
        self.asker = asker
        self.asked = asked
        self.first: Frame = {}
        self.frames: list[Frame] = []

    async def ask(self) -> None:
        answer = await get("/live/changes/", self.asked, self.asker)
        page = json.loads(answer.content)
        if "frames" not in page:
            self.first = page
            return
        self.first, *self.frames = page["frames"]
        self.asked = {**self.asked, "cursor": page["cursor"]}

    async def news(self) -> list[Frame]:
        frames, self.frames = self.frames, []
        if "cursor" in self.asked and not frames:
            await self.ask()
            frames, self.frames = self.frames, []
        return frames


@asynccontextmanager
async def feed(asker: Asker, collection: str, **asked: Any) -> AsyncIterator[Following]:
    following = _Feed(asker, {"collection": collection, **asked})
    await following.ask()
    yield following


TRANSPORTS: dict[str, Ask] = {"socket": socket, "stream": stream, "feed": feed}


async def get(path: str, asked: dict[str, Any], asker: Asker) -> Any:
    """Return the answer of a view to ``asker``, under ASGI."""
    browser = AsyncClient()
    browser.cookies.load(asker.cookies)
    headers = {name.decode(): value.decode() for name, value in asker.headers}
    if not asker.token:
        headers["origin"] = "http://testserver"
    async with ThreadSensitiveContext():
        return await browser.get(path, asked, headers=headers)


def _headers(asker: Asker) -> list[tuple[bytes, bytes]]:
    cookies = "; ".join(f"{name}={value}" for name, value in asker.cookies.items())
    own = [] if asker.token else [OWN]
    return [*own, *([(b"cookie", cookies.encode())] if cookies else []), *asker.headers]
