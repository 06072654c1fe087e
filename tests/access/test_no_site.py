"""A page outside every site is for nobody: the API gives it to no one."""

from __future__ import annotations

import pytest

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


@pytest.mark.xfail(
    strict=True,
    reason="Policy.was_visible asks no site: a replay says that a page has left which nobody had",
)
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
