"""The event stream: the same session, the same frames, on a response that goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests import newsroom
from tests.live import end, settled, sync
from tests.newsroom import Newsroom, publish
from tests.streams import Stream
from wagtail_live.testing import LiveClient

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

QUERY = "type=newsroom.ArticlePage&fields=title&order=title"
ARTICLES = {"collection": "pages", "query": QUERY}
SAME_ORIGIN = (b"sec-fetch-site", b"same-origin")


@pytest.fixture
def news() -> Newsroom:
    return newsroom.build()


@pytest.fixture(autouse=True)
async def quiet_relay() -> AsyncIterator[None]:
    """End the relay's task and the pool's connections with the test."""
    yield
    await end()


class TestFollowing:
    async def test_the_frames_are_byte_for_byte_those_of_the_socket(self, news: Newsroom) -> None:
        def change() -> None:
            publish(news.tram, title="Tram\r\nreturns \u2028 \u0085 é")
            newsroom.add_article(news.arts, "Ferry")
            news.bells.unpublish()

        async with LiveClient() as client, Stream({**ARTICLES, "uid": "a"}) as stream:
            frames = [await client.subscribe("pages", QUERY, uid="a")]
            await stream.hear()
            stream._read = 0
            await sync(change)
            frames += await settled(client)
            told = [await stream.hear() for _ in frames]
        assert [json.loads(data) for _, data in told][1:] == frames[1:]
        assert {frame["event"] for frame in frames[1:]} == {"delete", "create", "update"}
        for cursor, data in told:
            assert cursor == json.loads(data).get("cursor", "")
            assert "\r" not in data

    async def test_it_begins_with_a_random_retry_and_a_sign_of_life(self, news: Newsroom) -> None:
        async with Stream(ARTICLES) as stream:
            retry = (await stream.block()).removeprefix("retry: ")
            assert 0 <= int(retry) <= 30_000
            assert await stream.block() == ": ping"
            assert (await stream.frame())["event"] == "init"
            assert stream.status == 200
            assert stream.headers == {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache, no-transform",
                "x-accel-buffering": "no",
                "x-content-type-options": "nosniff",
                "vary": "Origin",
            }
