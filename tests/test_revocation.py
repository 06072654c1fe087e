"""Rights that change reach open connections, whatever the transport."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session as StoredSession
from django.db import OperationalError
from django.test import Client
from wagtail import models as wagtail_models
from wagtail.models import PageViewRestriction

from example_project.newsroom.models import SectionPage
from tests.live import caught_up, settled, sync
from tests.newsroom import Newsroom, add_article, add_user, publish
from tests.streams import OWN, Stream
from wagtail_live import identity, relay, retention
from wagtail_live.models import AccessRule
from wagtail_live.testing import Closed, Frame, LiveClient

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("quiet_relay", "committed")]

APIToken: Any = getattr(wagtail_models, "APIToken", None)
ARTICLES = {"type": "newsroom.ArticlePage", "fields": "title", "order": "title"}


class Ada:
    """A member of the press, in a browser in which she is signed in."""

    def __init__(self) -> None:
        self.user = add_user("ada")
        self.press = Group.objects.create(name="Press")
        self.user.groups.add(self.press)
        self.browser = Client()
        self.browser.force_login(self.user)
        self.cookies = {"sessionid": self.browser.cookies["sessionid"].value}

    def connect(self) -> LiveClient:
        return LiveClient(cookies=self.cookies)


@pytest.fixture
def ada() -> Ada:
    return Ada()


def restrict(page: SectionPage, *groups: Group, kind: str = "groups") -> PageViewRestriction:
    made = PageViewRestriction.objects.create(page=page, restriction_type=kind)
    made.groups.set(groups)
    return made


async def closed(client: LiveClient) -> Closed:
    """Return how ``client`` was closed; whatever came before it is no news."""
    with pytest.raises(Closed) as caught:
        while True:
            await client.hear()
    return caught.value


def titles(frame: Frame) -> list[str]:
    return [row["title"] for row in frame["data"]]


def change_password(ada: Ada) -> None:
    ada.user.set_password("another")
    ada.user.save()


def deactivate(ada: Ada) -> None:
    ada.user.is_active = False
    ada.user.save()


ENDS: list[Callable[[Ada], Any]] = [
    lambda ada: ada.browser.logout(),
    change_password,
    deactivate,
    lambda ada: ada.user.delete(),
    lambda ada: StoredSession.objects.all().delete(),
]


class TestEnds:
    @pytest.mark.parametrize(
        "end", ENDS, ids=["logout", "password", "deactivated", "deleted", "session"]
    )
    async def test_who_is_nobody_any_more_is_closed(
        self, news: Newsroom, ada: Ada, end: Callable[[Ada], Any]
    ) -> None:
        async with ada.connect() as hers, LiveClient() as public:
            await hers.subscribe("pages", ARTICLES)
            await public.subscribe("pages", ARTICLES)
            await sync(lambda: end(ada))
            assert (await closed(hers)).code == 4401
            assert await settled(public) == []

    async def test_what_is_published_afterwards_is_not_told(self, news: Newsroom, ada: Ada) -> None:
        await sync(lambda: restrict(news.town, ada.press))
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)

            def end_and_publish() -> None:
                ada.user.is_active = False
                ada.user.save()
                publish(news.tram, title="Not for her")

            await sync(end_and_publish)
            with pytest.raises(Closed):
                frame = await client.hear()
                pytest.fail(f"she was told {frame}")

    async def test_another_session_of_hers_goes_on(self, news: Newsroom, ada: Ada) -> None:
        phone = Client()
        await sync(lambda: phone.force_login(ada.user))
        cookies = {"sessionid": phone.cookies["sessionid"].value}
        async with ada.connect() as here, LiveClient(cookies=cookies) as there:
            await here.subscribe("pages", ARTICLES)
            await there.subscribe("pages", ARTICLES)
            await sync(ada.browser.logout)
            assert (await closed(here)).code == 4401
            await sync(lambda: publish(news.tram, title="On the phone"))
            [frame] = await settled(there)
            assert titles(frame) == ["On the phone"]

    @pytest.mark.skipif(APIToken is None, reason="API tokens came with Wagtail 8")
    @pytest.mark.parametrize("end", ["revoke", "delete"])
    async def test_who_came_with_a_token_goes_with_it(
        self, news: Newsroom, ada: Ada, end: str
    ) -> None:
        token, text = await sync(lambda: APIToken.create_token(user=ada.user, name="Build"))
        async with LiveClient() as client:
            client.say({"type": "auth", "access_token": text})
            assert (await client.hear())["status"] == "ok"
            await client.subscribe("pages", ARTICLES)
            await sync(getattr(token, end))
            assert (await closed(client)).code == 4401


class TestMoves:
    async def test_who_leaves_a_group_loses_what_it_opened(self, news: Newsroom, ada: Ada) -> None:
        await sync(lambda: restrict(news.town, ada.press))
        async with ada.connect() as client:
            init = await client.subscribe("pages", ARTICLES, uid="a")
            assert titles(init) == ["Bells", "Opera", "Tram"]
            await sync(lambda: ada.user.groups.clear())
            await caught_up()
            deleted, fresh = await client.hear(), await client.hear()
            assert (deleted["event"], deleted["data"], deleted["uid"]) == (
                "delete",
                [news.tram.pk, news.bells.pk],
                "a",
            )
            assert (fresh["event"], fresh["reset"], titles(fresh)) == (
                "init",
                "access_changed",
                ["Opera"],
            )
            await sync(lambda: publish(news.tram, title="Unseen"))
            await sync(lambda: publish(news.opera, title="Seen"))
            assert [titles(frame) for frame in await settled(client)] == [["Seen"]]

    async def test_who_joins_a_group_gets_what_it_opens(self, news: Newsroom, ada: Ada) -> None:
        await sync(lambda: (ada.user.groups.clear(), restrict(news.town, ada.press)))
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)
            await sync(lambda: ada.press.user_set.add(ada.user))
            await caught_up()
            fresh = await client.hear()
            assert (fresh["reset"], titles(fresh)) == (
                "access_changed",
                ["Bells", "Opera", "Tram"],
            )

    async def test_a_deleted_group_takes_what_it_opened_along(
        self, news: Newsroom, ada: Ada
    ) -> None:
        await sync(lambda: restrict(news.town, ada.press))
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)
            await sync(ada.press.delete)
            await caught_up()
            assert (await client.hear())["data"] == [news.tram.pk, news.bells.pk]

    async def test_a_query_that_is_not_possible_any_more_ends(
        self, news: Newsroom, ada: Ada
    ) -> None:
        await sync(lambda: restrict(news.town, ada.press))
        async with ada.connect() as client:
            await client.subscribe("pages", item=news.tram.pk, uid="item")
            await sync(lambda: ada.user.groups.clear())
            await caught_up()
            deleted, refused = await client.hear(), await client.hear()
            assert (deleted["event"], deleted["data"]) == ("delete", [news.tram.pk])
            assert (refused["type"], refused["error"]["code"], refused["uid"]) == (
                "subscription",
                "FORBIDDEN",
                "item",
            )
            await sync(lambda: publish(news.tram, title="Unseen"))
            assert await settled(client) == []

    async def test_who_wants_deletes_alone_is_told_what_left(
        self, news: Newsroom, ada: Ada
    ) -> None:
        await sync(lambda: restrict(news.town, ada.press))
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES, event="delete")
            await sync(lambda: ada.user.groups.clear())
            await caught_up()
            assert (await client.hear())["data"] == [news.tram.pk, news.bells.pk]
            assert "data" not in await client.hear()

    async def test_a_page_that_came_after_the_group_was_left_is_not_named(
        self, news: Newsroom, ada: Ada, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others follow the same query with the right that she lost, and have heard of it."""
        real, others_heard = identity.identify, threading.Event()

        def identify(*of: Any) -> Any:
            assert others_heard.wait(20)
            return real(*of)

        def leave_and_publish() -> int:
            ada.user.groups.clear()
            return add_article(news.town, "Ferry").pk

        bob = await sync(lambda: (restrict(news.town, ada.press), Colleague(ada))[1])
        async with ada.connect() as hers, bob.connect() as his:
            await hers.subscribe("pages", ARTICLES)
            await his.subscribe("pages", ARTICLES)
            monkeypatch.setattr(identity, "identify", identify)
            ferry = await sync(leave_and_publish)
            assert [row["id"] for row in (await his.hear())["data"]] == [ferry]
            others_heard.set()
            deleted, fresh = await hers.hear(), await hers.hear()
            assert deleted["data"] == [news.tram.pk, news.bells.pk]
            assert titles(fresh) == ["Opera"]

    async def test_who_stays_who_they_are_hear_everything_once(
        self, news: Newsroom, ada: Ada
    ) -> None:
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)

            def touch_and_publish() -> None:
                ada.user.first_name = "Ada"
                ada.user.save()
                publish(news.tram, title="One")
                ada.user.save()
                publish(news.bells, title="Two")

            await sync(touch_and_publish)
            frames = await settled(client)
            assert all(frame["event"] == "update" for frame in frames)
            assert sorted(title for frame in frames for title in titles(frame)) == ["One", "Two"]

    async def test_others_are_not_disturbed(self, news: Newsroom, ada: Ada) -> None:
        bob = await sync(lambda: Colleague(ada))
        async with bob.connect() as his, LiveClient() as public:
            await his.subscribe("pages", ARTICLES)
            await public.subscribe("pages", ARTICLES)
            await sync(lambda: ada.user.groups.clear())
            assert await settled(his) == []
            assert await settled(public) == []


class Colleague(Ada):
    """Another member of the press."""

    def __init__(self, ada: Ada) -> None:
        self.user = add_user("bob")
        self.press = ada.press
        self.user.groups.add(self.press)
        self.browser = Client()
        self.browser.force_login(self.user)
        self.cookies = {"sessionid": self.browser.cookies["sessionid"].value}


class TestOtherTransports:
    def headers(self, ada: Ada) -> list[tuple[bytes, bytes]]:
        return [OWN, (b"cookie", f"sessionid={ada.cookies['sessionid']}".encode())]

    async def test_a_stream_ends_when_its_session_does(self, news: Newsroom, ada: Ada) -> None:
        asked = {"collection": "pages", "query": "type=newsroom.ArticlePage&fields=title"}
        async with Stream(asked, headers=self.headers(ada)) as stream:
            assert (await stream.frame())["event"] == "init"
            await sync(ada.browser.logout)
            await stream.until_complete()
            assert stream.unread() == []

    async def test_a_stream_takes_back_what_a_group_opened(self, news: Newsroom, ada: Ada) -> None:
        await sync(lambda: restrict(news.town, ada.press))
        asked = {"collection": "pages", "query": "type=newsroom.ArticlePage&fields=title"}
        async with Stream(asked, headers=self.headers(ada)) as stream:
            await stream.frame()
            await sync(lambda: ada.user.groups.clear())
            assert (await stream.frame())["data"] == [news.tram.pk, news.bells.pk]
            assert (await stream.frame())["reset"] == "access_changed"


class TestRules:
    async def test_a_rule_that_closes_a_collection_takes_it_back(
        self, news: Newsroom, ada: Ada
    ) -> None:
        async with ada.connect() as hers, LiveClient() as public:
            await hers.subscribe("pages", ARTICLES)
            await public.subscribe("pages", ARTICLES)

            def allow_the_press() -> None:
                AccessRule.objects.create(collection="pages", who="group", group=ada.press)

            await sync(allow_the_press)
            fresh = await hers.hear()
            assert (fresh["event"], fresh["reset"]) == ("init", "access_changed")
            deleted, refused = await public.hear(), await public.hear()
            assert (deleted["event"], len(deleted["data"])) == ("delete", 3)
            assert (refused["type"], refused["error"]["code"]) == ("subscription", "FORBIDDEN")


class TestTimer:
    async def test_what_no_entry_tells_is_found_in_time(
        self, news: Newsroom, ada: Ada, settings: Any
    ) -> None:
        settings.WAGTAIL_LIVE_RECHECK_SECONDS = 1
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)
            await sync(lambda: User.objects.filter(pk=ada.user.pk).update(is_active=False))
            assert (await closed(client)).code == 4401

    async def test_a_lost_group_is_found_in_time(
        self, news: Newsroom, ada: Ada, settings: Any
    ) -> None:
        settings.WAGTAIL_LIVE_RECHECK_SECONDS = 1
        await sync(lambda: restrict(news.town, ada.press))
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)
            await sync(lambda: User.groups.through.objects.all()._raw_delete("default"))
            assert (await client.hear())["data"] == [news.tram.pk, news.bells.pk]
            assert (await client.hear())["reset"] == "access_changed"

    async def test_a_session_ends_when_its_time_is_over(
        self, news: Newsroom, ada: Ada, settings: Any
    ) -> None:
        """The timer is far away."""
        settings.WAGTAIL_LIVE_RECHECK_SECONDS = 3600

        def expire_soon() -> None:
            session = ada.browser.session
            session.set_expiry(2)
            session.save()

        await sync(expire_soon)
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)
            assert (await closed(client)).code == 4401

    async def test_the_public_is_not_looked_up_again(
        self, news: Newsroom, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)
            assert not relay.current().askers.identified


class TestTrouble:
    async def test_while_the_database_is_away_nothing_is_told(
        self, news: Newsroom, ada: Ada, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, failures = identity.identify, iter(range(2))

        def identify(*of: Any) -> Any:
            if next(failures, None) is not None:
                raise OperationalError("away")
            return real(*of)

        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)
            monkeypatch.setattr(identity, "identify", identify)
            await sync(lambda: (ada.user.save(), publish(news.tram, title="Late")))
            [frame] = await settled(client)
            assert titles(frame) == ["Late"]
            assert next(failures, None) is None

    async def test_after_a_log_that_does_not_go_on_everybody_is_looked_up(
        self, news: Newsroom, ada: Ada, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with ada.connect() as client:
            await client.subscribe("pages", ARTICLES)
            monkeypatch.setattr("wagtail_live.log.append", lambda *_, **__: None)
            await sync(lambda: (ada.browser.logout(), retention.new_epoch()))
            assert (await closed(client)).code == 4401


async def test_nobody_is_remembered_who_has_left(news: Newsroom, ada: Ada) -> None:
    async with ada.connect() as client, LiveClient() as public:
        await client.subscribe("pages", ARTICLES)
        await public.subscribe("pages", ARTICLES)
    assert not relay.current().askers._askers
