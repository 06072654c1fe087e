"""A page outside every site is for nobody: the API gives it to no one."""

from __future__ import annotations

import pytest
from wagtail.models import Page

from example_project.newsroom.models import HomePage
from tests.live import settled, sync
from tests.newsroom import Newsroom, publish
from wagtail_live import relay
from wagtail_live.testing import LiveClient

pytestmark = pytest.mark.usefixtures("quiet_relay", "committed")
PAGES = {"fields": "title"}


@pytest.fixture
def nowhere(news: Newsroom) -> HomePage:
    news.root.refresh_from_db()
    page: HomePage = news.root.add_child(instance=HomePage(title="Nowhere", slug="nowhere"))
    return page


async def test_its_change_is_not_told(nowhere: HomePage) -> None:
    async with LiveClient() as client:
        await client.subscribe("pages", PAGES)
        await sync(lambda: publish(nowhere, title="Somewhere"))
        assert await settled(client) == []


async def test_its_change_is_not_replayed(nowhere: HomePage) -> None:
    async with LiveClient() as client:
        init = await client.subscribe("pages", PAGES)
    await sync(lambda: publish(nowhere, title="Somewhere"))
    await relay.current().close()
    async with LiveClient() as client:
        answer = await client.subscribe("pages", PAGES, cursor=init["cursor"])
        assert answer["event"] == "resume"
        told = [frame for frame in await settled(client) if frame["data"]]
        assert told == []


async def test_a_page_that_has_left_every_site_has_left(news: Newsroom) -> None:
    async with LiveClient() as client:
        init = await client.subscribe("pages", PAGES)

    def move() -> None:
        news.root.refresh_from_db()
        Page.objects.get(pk=news.tram.pk).move(news.root, pos="last-child")

    await sync(move)
    await relay.current().close()
    async with LiveClient() as client:
        await client.subscribe("pages", PAGES, cursor=init["cursor"])
        told = [frame for frame in await settled(client) if frame["data"]]
        assert [(frame["event"], frame["data"]) for frame in told] == [("delete", [news.tram.pk])]
