"""The change feed: the frames since a cursor, by a plain request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.test import AsyncClient

from tests import newsroom
from tests.live import end, sync
from tests.newsroom import Newsroom, publish

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

ARTICLES = {"collection": "pages", "query": "type=newsroom.ArticlePage&fields=title&order=title"}


@pytest.fixture
def news() -> Newsroom:
    return newsroom.build()


@pytest.fixture(autouse=True)
async def quiet_relay() -> AsyncIterator[None]:
    """End the relay's task and the pool's connections with the test."""
    yield
    await end()


async def ask(client: AsyncClient | None = None, headers: Any = None, **parameters: Any) -> Any:
    """Return the answer to a GET, under ASGI."""
    client = client or AsyncClient()
    return await client.get("/live/changes/", parameters, headers=headers or {})


class TestPages:
    async def test_without_a_cursor_it_is_the_base(self, news: Newsroom) -> None:
        answer = (await ask(**ARTICLES)).json()
        [init] = answer["frames"]
        assert init["event"] == "init"
        assert [row["title"] for row in init["data"]] == ["Bells", "Opera", "Tram"]
        assert answer["cursor"] == init["cursor"]

    async def test_with_a_cursor_it_is_the_whole_gap(self, news: Newsroom) -> None:
        cursor = (await ask(**ARTICLES)).json()["cursor"]

        def meanwhile() -> None:
            publish(news.tram, title="Tram returns")
            news.bells.unpublish()
            newsroom.add_article(news.arts, "Ferry")

        await sync(meanwhile)
        answer = (await ask(**ARTICLES, cursor=cursor)).json()
        assert [frame["event"] for frame in answer["frames"][:4]] == [
            "resume",
            "delete",
            "create",
            "update",
        ]
        assert answer["frames"][3]["cursor"]
        again = (await ask(**ARTICLES, cursor=answer["cursor"])).json()
        assert [frame["event"] for frame in again["frames"]] == ["resume"]
