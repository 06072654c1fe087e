"""Following, through the whole flow: a save, the log, the relay, the session, frames."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections import defaultdict
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from wagtail.models import Page, PageViewRestriction, Site

from example_project.newsroom.models import (
    ArticlePage,
    Author,
    Notice,
    RelatedLink,
    SectionPage,
)
from tests import newsroom
from tests.live import caught_up, settled, sync
from tests.newsroom import Newsroom, publish
from tests.tokens import needs_tokens, token_of
from wagtail_live import access_tokens, relay, retention
from wagtail_live.exceptions import InvalidCredentials
from wagtail_live.source import Source
from wagtail_live.testing import Closed, Frame, LiveClient, Refused

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("quiet_relay", "committed")]

ARTICLES = {"type": "newsroom.ArticlePage", "fields": "title", "order": "title"}


def api(path: str, client: Client | None = None, **query: Any) -> Any:
    return json.loads((client or Client()).get(f"/api/v2/{path}", query).content)


class TestFollowing:
    async def test_the_snapshot_is_the_listing(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            init = await client.subscribe("pages", ARTICLES, uid="a")
            listing = await sync(lambda: api("pages/", **ARTICLES))
            assert init["data"] == listing["items"]
            assert init["meta"] == listing["meta"]
            assert (init["event"], init["uid"]) == ("init", "a")

    async def test_an_item_has_the_shape_of_the_detail(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            init = await client.subscribe("pages", item=news.tram.pk, uid=1)
            assert init["data"] == await sync(lambda: api(f"pages/{news.tram.pk}/"))
            assert init["uid"] == "1"

    async def test_create_update_delete(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)
            page = await sync(lambda: newsroom.add_article(news.town, "Ferry"))
            [created] = await settled(client)
            assert (created["event"], created["data"][0]["title"]) == ("create", "Ferry")
            await sync(lambda: publish(page, title="Ferry returns"))
            [updated] = await settled(client)
            assert (updated["event"], updated["data"][0]["title"]) == ("update", "Ferry returns")
            await sync(lambda: ArticlePage.objects.get(pk=page.pk).unpublish())
            [deleted] = await settled(client)
            assert (deleted["event"], deleted["data"]) == ("delete", [page.pk])

    async def test_a_draft_never_shows(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)

            def draft() -> None:
                page = ArticlePage.objects.get(pk=news.tram.pk)
                page.title = "Secret"
                page.save_revision()
                publish(news.bells, title="Public")

            await sync(draft)
            [frame] = await settled(client)
            assert [row["title"] for row in frame["data"]] == ["Public"]

    async def test_leaving_a_filter_and_a_section_are_deletes(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", {"child_of": news.town.pk}, uid="section")
            await client.subscribe("pages", {"slug": "tram"}, uid="slug")
            await sync(lambda: publish(news.tram, slug="tramway"))
            frames = {frame["uid"]: frame for frame in await settled(client)}
            assert frames["slug"]["event"] == "delete"
            assert frames["section"]["event"] == "update"
            await sync(
                lambda: Page.objects.get(pk=news.tram.pk).move(
                    Page.objects.get(pk=news.arts.pk), "last-child"
                )
            )
            [frame] = await settled(client)
            assert (frame["uid"], frame["event"], frame["data"]) == (
                "section",
                "delete",
                [news.tram.pk],
            )

    async def test_a_moved_section_updates_its_descendants(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", {**ARTICLES, "fields": "html_url"})
            await sync(lambda: publish(news.town, slug="city"))
            [frame] = await settled(client)
            assert {row["meta"]["html_url"] for row in frame["data"]} == {
                "http://localhost/city/tram/",
                "http://localhost/city/bells/",
            }

    async def test_a_deleted_section_takes_its_descendants_along(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)
            await sync(lambda: Page.objects.get(pk=news.town.pk).delete())
            [frame] = await settled(client)
            assert (frame["event"], frame["data"]) == (
                "delete",
                sorted([news.tram.pk, news.bells.pk]),
            )

    async def test_restricting_a_section_hides_it_and_lifting_it_shows_it_again(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)
            rule = await sync(
                lambda: PageViewRestriction.objects.create(page=news.town, restriction_type="login")
            )
            [frame] = await settled(client)
            assert (frame["event"], len(frame["data"])) == ("delete", 2)
            await sync(lambda: publish(news.tram, title="Unseen"))
            assert await settled(client) == []
            await sync(rule.delete)
            [frame] = await settled(client)
            assert (frame["event"], len(frame["data"])) == ("create", 2)

    async def test_who_comes_before_a_lifting_is_read_takes_it_from_nobody(
        self, news: Newsroom
    ) -> None:
        rule = await sync(
            lambda: PageViewRestriction.objects.create(page=news.tram, restriction_type="login")
        )
        async with LiveClient() as early, LiveClient() as late:
            await early.subscribe("pages", ARTICLES)
            await sync(lambda: publish(news.bells))  # a base from before it serves nobody else
            await settled(early)
            gate = relay.current().source = Gate()
            await asyncio.to_thread(gate.reached.wait)
            await sync(rule.delete)
            base = await late.subscribe("pages", ARTICLES)
            assert news.tram.pk in [row["id"] for row in base["data"]]
            gate.open.set()
            [frame] = await settled(early)
            assert (frame["event"], [row["id"] for row in frame["data"]]) == (
                "create",
                [news.tram.pk],
            )

    async def test_an_alias_of_a_restricted_page_is_not_shown(self, news: Newsroom) -> None:
        def arrange() -> Page:
            alias = news.tram.create_alias(parent=SectionPage.objects.get(pk=news.arts.pk))
            PageViewRestriction.objects.create(page=news.tram, restriction_type="login")
            return alias

        alias = await sync(arrange)
        async with LiveClient() as client:
            init = await client.subscribe("pages", ARTICLES)
            assert alias.pk not in {row["id"] for row in init["data"]}
            refused = await client.subscribe("pages", item=alias.pk)
            assert refused["error"]["code"] == "FORBIDDEN"
            await sync(lambda: publish(news.tram, title="Secret tram"))
            assert await settled(client) == []

    async def test_a_changed_author_updates_the_articles_that_show_it(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", {**ARTICLES, "fields": "author(name)"}, uid="pages")
            await client.subscribe("authors", uid="authors")

            def rename() -> None:
                author = Author.objects.get(pk=news.author.pk)
                author.name = "Inés Calder"
                author.save_revision().publish()

            await sync(rename)
            frames = {frame["uid"]: frame for frame in await settled(client)}
            assert frames["pages"]["data"][0]["author"]["name"] == "Inés Calder"
            assert frames["authors"]["data"][0]["name"] == "Inés Calder"

    async def test_a_parent_renamed_updates_the_child_that_shows_it(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", item=news.tram.pk)
            await sync(lambda: publish(news.town, title="City"))
            [frame] = await settled(client)
            assert frame["data"][0]["meta"]["parent"]["title"] == "City"

    async def test_an_event_filter_lets_only_that_event_through(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            init = await client.subscribe("notices", event="delete")
            assert "data" not in init
            notice = await sync(lambda: Notice.objects.create(text="Fog"))
            await settled(client)
            await sync(notice.save)
            await settled(client)
            key = notice.pk
            await sync(notice.delete)
            [frame] = await settled(client)
            assert (frame["event"], frame["data"]) == ("delete", [key])

    async def test_a_site_change_is_a_fresh_base(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)

            def rename() -> None:
                site = Site.objects.get()
                site.port = 8080
                site.save()

            await sync(rename)
            [frame] = await settled(client)
            assert (frame["event"], frame["reset"]) == ("init", "renewed")

    async def test_more_than_a_batch_is_a_fresh_base(self, news: Newsroom, settings) -> None:
        settings.WAGTAIL_LIVE_MAX_BATCH = 2
        async with LiveClient() as client:
            await client.subscribe("pages", {**ARTICLES, "limit": 1})
            await sync(lambda: publish(news.home, slug="start"))
            [frame] = await settled(client)
            assert (frame["event"], frame["reset"], len(frame["data"])) == ("init", "too_many", 1)

    async def test_unsubscribing_ends_the_frames(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES, uid="a")
            client.say({"type": "unsubscribe", "uid": "a"})
            assert await client.hear() == {
                "type": "subscription",
                "event": "unsubscribe",
                "uid": "a",
            }
            await sync(lambda: publish(news.tram, title="Unheard"))
            assert await settled(client) == []

    async def test_a_second_subscription_with_a_uid_replaces_the_first(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES, uid="a")
            await client.subscribe("authors", uid="a")
            await sync(lambda: publish(news.tram, title="Unheard"))
            assert await settled(client) == []


class TestAskers:
    async def test_a_member_sees_what_the_session_opens(self, news: Newsroom) -> None:
        def arrange() -> Client:
            PageViewRestriction.objects.create(page=news.town, restriction_type="login")
            browser = Client()
            browser.force_login(newsroom.add_user("member"))
            return browser

        browser = await sync(arrange)
        cookies = {"sessionid": browser.cookies["sessionid"].value}
        async with LiveClient(cookies=cookies) as member, LiveClient() as public:
            seen = await member.subscribe("pages", ARTICLES)
            assert seen["data"] == (await sync(lambda: api("pages/", browser, **ARTICLES)))["items"]
            assert len(seen["data"]) == 3
            assert len((await public.subscribe("pages", ARTICLES))["data"]) == 1
        async with LiveClient(cookies=cookies, origin=None) as program:
            assert len((await program.subscribe("pages", ARTICLES))["data"]) == 1

    async def test_groups_and_passwords_count(self, news: Newsroom) -> None:
        def arrange() -> tuple[Client, Client]:
            group = Group.objects.create(name="Readers")
            PageViewRestriction.objects.create(
                page=news.tram, restriction_type="groups"
            ).groups.add(group)
            rule = PageViewRestriction.objects.create(
                page=news.bells,
                restriction_type="password",
                password="sesame",
            )
            reader, guest = Client(), Client()
            user = newsroom.add_user("reader")
            user.groups.add(group)
            reader.force_login(user)
            session = guest.session
            session["passed_page_view_restrictions"] = [rule.pk]
            session.save()
            return reader, guest

        reader, guest = await sync(arrange)
        expected = {reader: {"Tram", "Opera"}, guest: {"Bells", "Opera"}}
        for browser, titles in expected.items():
            cookies = {"sessionid": browser.cookies["sessionid"].value}
            async with LiveClient(cookies=cookies) as client:
                init = await client.subscribe("pages", ARTICLES)
                assert {row["title"] for row in init["data"]} == titles

    @pytest.mark.parametrize(
        "origin",
        [
            "https://localhost",
            "http://localhost:81",
            "http://evil.example",
            "http://localhost.evil.example",
            "null",
            "http://[",
            "",
        ],
    )
    async def test_a_foreign_origin_is_refused(self, news: Newsroom, origin: str) -> None:
        with pytest.raises(Refused):
            async with LiveClient(origin=origin):
                pass

    async def test_an_allowed_origin_is_welcome(self, news: Newsroom) -> None:
        async with LiveClient(origin="http://localhost:3000") as client:
            assert (await client.subscribe("notices"))["event"] == "init"


BAD_MESSAGES: list[tuple[Any, str, str | None]] = [
    ("{", "INVALID_PAYLOAD", None),
    ("[]", "INVALID_PAYLOAD", None),
    ("[" * 60000, "INVALID_PAYLOAD", None),
    (b"\x00", "INVALID_PAYLOAD", None),
    ({"type": "dance", "uid": "u"}, "UNKNOWN_TYPE", "u"),
    ({"type": "subscribe", "uid": "u"}, "INVALID_PAYLOAD", "u"),
    ({"type": "subscribe", "collection": "users", "uid": "u"}, "FORBIDDEN", "u"),
    ({"type": "subscribe", "collection": "pages", "item": 0, "uid": "u"}, "FORBIDDEN", "u"),
    ({"type": "subscribe", "collection": "pages", "item": "1 OR 1", "uid": 1}, "FORBIDDEN", "1"),
    ({"type": "subscribe", "collection": "pages", "item": 10**30, "uid": "u"}, "FORBIDDEN", "u"),
]
BAD_QUERIES: list[dict[str, Any]] = [
    {"fields": "nonsense"},
    {"fields": "title,(("},
    {"nonsense": "1"},
    {"child_of": 424242},
    {"child_of": "first"},
    {"child_of": 10**30},
    {"descendant_of": -1},
    {"translation_of": 424242},
    {"type": "newsroom.Nothing"},
    {"type": "newsroom.ArticlePage", "date": "yesterday"},
    {"type": "newsroom.ArticlePage", "author": "many"},
    {"type": "newsroom.ArticlePage", "categories": "many"},
    {"limit": "all"},
    {"limit": 10**6},
    {"offset": -1},
    {"order": "nonsense"},
    {"locale": "xx"},
    {"site": "nowhere.example"},
    {"title": {"_eq": "x"}},
    {"title": "\x00"},
    {"search": "tram"},
    {"rich_text_format": "nonsense"},
]


class TestErrors:
    async def test_every_bad_message_is_answered_and_the_connection_lives(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            for frame, code, uid in BAD_MESSAGES:
                client.say(frame)
                answer = await client.hear()
                assert (answer["status"], answer["error"]["code"]) == ("error", code), frame
                assert answer.get("uid") == uid, frame
                assert answer["error"]["message"].endswith(".")
                assert await client.unheard() == []

    async def test_every_bad_query_is_answered_and_the_connection_lives(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            for query in BAD_QUERIES:
                answer = await client.subscribe("pages", query, uid="q")
                assert answer["error"]["code"] == "INVALID_QUERY", (query, answer)
                assert (answer["type"], answer["uid"]) == ("subscribe", "q")
            assert (await client.subscribe("pages", ARTICLES))["event"] == "init"

    async def test_what_is_missing_and_what_is_hidden_look_the_same(self, news: Newsroom) -> None:
        await sync(
            lambda: PageViewRestriction.objects.create(page=news.town, restriction_type="login")
        )
        async with LiveClient() as client:
            hidden = await client.subscribe("pages", item=news.tram.pk)
            missing = await client.subscribe("pages", item=424242)
            collection = await client.subscribe("secrets")
            assert hidden == missing == collection
            hidden = await client.subscribe("pages", {"child_of": news.town.pk})
            missing = await client.subscribe("pages", {"child_of": 424242})
            assert hidden == missing

    async def test_too_many_subscriptions_are_refused(self, news: Newsroom, settings) -> None:
        settings.WAGTAIL_LIVE_MAX_SUBSCRIPTIONS = 2
        settings.WAGTAIL_LIVE_MESSAGES_PER_SECOND = 10_000  # five in a row are too many otherwise
        async with LiveClient() as client:
            for uid in "ab":
                assert (await client.subscribe("notices", uid=uid))["event"] == "init"
            refused = await client.subscribe("notices", uid="c")
            assert refused["error"]["code"] == "TOO_MANY_SUBSCRIPTIONS"
            client.say({"type": "unsubscribe", "uid": "a"})
            await client.hear()
            assert (await client.subscribe("notices", uid="c"))["event"] == "init"

    async def test_too_large_a_message_closes(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            client.say("x" * 65_537)
            with pytest.raises(Closed) as closed:
                await client.hear()
            assert closed.value.code == 1009

    async def test_a_silent_client_is_pinged_and_then_closed(
        self, news: Newsroom, settings
    ) -> None:
        settings.WAGTAIL_LIVE_HEARTBEAT_SECONDS = 0.05
        async with LiveClient(answer_pings=False) as client:
            assert await client.hear() == {"type": "ping"}
            with pytest.raises(Closed) as closed:
                await client.hear()
            assert closed.value.code == 4408

    async def test_a_connection_whose_code_fails_is_closed_and_cleaned_up(
        self, news: Newsroom, settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)
            settings.WAGTAIL_LIVE_MAX_MESSAGE_BYTES = "many"
            client.say({"type": "ping"})
            with pytest.raises(Closed) as closed:
                await client.hear()
        assert (closed.value.code, closed.value.reason) == (1011, "INTERNAL")
        assert "a connection failed" in caplog.text
        current = relay.current()
        assert current.sessions == 0
        assert all(len(live_query) == 0 for live_query in current.hub)

    async def test_the_answer_to_a_subscribe_says_within_what_time_to_come_back(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            init = await client.subscribe("pages", ARTICLES)
            item = await client.subscribe("pages", item=news.tram.pk)
            resumed = await client.subscribe("pages", ARTICLES, cursor=init["cursor"])
            reset = await client.subscribe("pages", ARTICLES, cursor="x", event="delete")
            assert {one["reconnect_seconds"] for one in (init, item, resumed, reset)} == {1}
            await sync(lambda: publish(news.tram, title="Tram returns"))
            assert not any("reconnect_seconds" in frame for frame in await settled(client))


async def missed(client: LiveClient) -> list[tuple[str, Any]]:
    """Return what a resumed client is told, once: the relay reads the gap too and may repeat it."""
    told = [(frame["event"], frame["data"]) for frame in await settled(client)]
    return [one for index, one in enumerate(told) if one not in told[:index]]


class Gate(Source):
    """Keeps the relay from reading until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def number(self) -> bool:
        self.reached.set()
        self.open.wait(60)
        return super().number()


class TestResuming:
    async def test_a_good_cursor_gives_what_was_missed(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]

        def meanwhile() -> Page:
            publish(news.tram, title="Tram returns")
            ArticlePage.objects.get(pk=news.bells.pk).unpublish()
            return newsroom.add_article(news.arts, "Ferry")

        ferry = await sync(meanwhile)
        async with LiveClient() as client:
            answer = await client.subscribe("pages", ARTICLES, cursor=cursor, uid="r")
            assert (answer["event"], answer["uid"]) == ("resume", "r")
            frames = await settled(client)
            # The gap goes as far as the relay has read: the rest follows, and some may repeat.
            said: dict[str, list[Any]] = defaultdict(list)
            for frame in frames:
                said[frame["event"]] += frame["data"]
            assert set(said["delete"]) == {news.bells.pk}
            assert {row["title"] for row in said["update"]} >= {"Tram returns"}
            assert {row["id"] for row in said["create"]} == {ferry.pk}
            assert "cursor" in frames[-1]

    async def test_nothing_missed_is_nothing_sent(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]
            answer = await client.subscribe("pages", ARTICLES, cursor=cursor, uid="r")
            assert answer["event"] == "resume"
            assert await settled(client) == []

    async def test_what_came_and_went_meanwhile_is_a_delete(self, news: Newsroom) -> None:
        """The client may hold it: its connection broke between the frames of a change."""
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]

            def both() -> Page:
                ArticlePage.objects.get(pk=news.bells.pk).unpublish()
                return newsroom.add_article(news.arts, "Ferry")

            ferry = await sync(both)
            assert ferry.pk in [row["id"] for row in (await settled(client))[-1]["data"]]
        await sync(ferry.delete)
        await caught_up()
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES, cursor=cursor)
            told = await missed(client)
            assert {event for event, _ in told} == {"delete"}
            assert {key for _, keys in told for key in keys} == {news.bells.pk, ferry.pk}

    async def test_what_was_and_stays_hidden_is_not_replayed(self, news: Newsroom) -> None:
        rule = await sync(
            lambda: PageViewRestriction.objects.create(page=news.town, restriction_type="login")
        )
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]

        def meanwhile() -> None:
            publish(news.tram, title="Secret")
            ArticlePage.objects.get(pk=news.bells.pk).delete()
            rule.restriction_type = "password"
            rule.save()

        await sync(meanwhile)
        await caught_up()  # while a comparison waits, who comes back gets a base
        async with LiveClient() as client:
            answer = await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert answer["event"] == "resume", answer
            assert await settled(client) == []

    @pytest.mark.parametrize("later", ["nothing", "unpublished", "deleted", "added"])
    async def test_what_was_restricted_meanwhile_is_a_reset(
        self, news: Newsroom, later: str
    ) -> None:
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]

        def meanwhile() -> None:
            PageViewRestriction.objects.create(page=news.town, restriction_type="login")
            if later == "unpublished":
                ArticlePage.objects.get(pk=news.tram.pk).unpublish()
            elif later == "deleted":
                ArticlePage.objects.get(pk=news.bells.pk).delete()
            elif later == "added":
                newsroom.add_article(news.town, "Secret")

        await sync(meanwhile)
        await caught_up()
        async with LiveClient() as client:
            answer = await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert (answer["event"], answer["reset"]) == ("init", "access_changed")
            assert [row["title"] for row in answer["data"]] == ["Opera"]

    async def test_what_was_restricted_by_itself_is_not_named_when_it_goes_or_moves(
        self, news: Newsroom
    ) -> None:
        def restrict() -> None:
            for page in (news.bells, news.tram):
                PageViewRestriction.objects.create(page=page, restriction_type="login")

        await sync(restrict)
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]

        def meanwhile() -> None:
            ArticlePage.objects.get(pk=news.bells.pk).delete()
            ArticlePage.objects.get(pk=news.tram.pk).move(
                SectionPage.objects.get(pk=news.arts.pk), pos="last-child"
            )

        await sync(meanwhile)
        async with LiveClient() as client:
            answer = await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert answer["event"] == "resume"
            assert await settled(client) == []

    async def test_what_left_before_the_query_was_looked_at_is_in_the_gap(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]
        await relay.current().close()  # as a process that never held this live query
        async with LiveClient() as other, LiveClient() as client:
            await other.subscribe("notices")
            gate = relay.current().source = Gate()
            await asyncio.to_thread(gate.reached.wait)
            await sync(lambda: ArticlePage.objects.get(pk=news.tram.pk).unpublish())
            base = await other.subscribe("pages", ARTICLES, uid="base")
            assert news.tram.pk not in [row["id"] for row in base["data"]]
            asyncio.get_running_loop().call_later(0.2, gate.open.set)
            await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert await missed(client) == [("delete", [news.tram.pk])]

    async def test_an_item_that_went_meanwhile_is_a_delete(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", item=news.tram.pk))["cursor"]
        await sync(lambda: ArticlePage.objects.get(pk=news.tram.pk).unpublish())
        async with LiveClient() as client:
            answer = await client.subscribe("pages", item=news.tram.pk, cursor=cursor)
            assert answer["event"] == "resume"
            assert await missed(client) == [("delete", [news.tram.pk])]
            await sync(lambda: publish(news.tram))
            [frame] = await settled(client)
            assert frame["event"] == "create"

    @pytest.mark.parametrize("cursor", ["", "x", "A" * 92, "é" * 40])
    async def test_a_forged_cursor_is_a_reset(self, news: Newsroom, cursor: str) -> None:
        async with LiveClient() as client:
            answer = await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert (answer["event"], answer["reset"]) == ("init", "unknown")
            assert len(answer["data"]) == 3

    async def test_a_cursor_of_another_query_is_a_reset(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            cursor = (await client.subscribe("notices"))["cursor"]
            answer = await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert (answer["event"], answer["reset"]) == ("init", "other_query")

    async def test_a_pruned_cursor_is_a_reset_and_the_floor_itself_is_not(
        self, news: Newsroom
    ) -> None:
        from datetime import timedelta  # noqa: PLC0415  # used once

        async with LiveClient() as client:
            await sync(lambda: publish(news.tram, title="One"))
            old = (await client.subscribe("pages", ARTICLES))["cursor"]
            await sync(lambda: publish(news.tram, title="Two"))
            await settled(client)
            floor = (await client.subscribe("pages", ARTICLES, uid="2"))["cursor"]
        await sync(lambda: retention.prune(older_than=timedelta(0)))
        await relay.current().close()  # it remembers the newest entries
        async with LiveClient() as client:
            answer = await client.subscribe("pages", ARTICLES, cursor=old, uid="3")
            assert (answer["event"], answer["reset"]) == ("init", "expired")
            answer = await client.subscribe("pages", ARTICLES, cursor=floor, uid="4")
            assert answer["event"] == "resume"

    async def test_a_plain_snippet_edited_and_then_deleted_meanwhile_is_a_delete(
        self, news: Newsroom
    ) -> None:
        notice = await sync(lambda: Notice.objects.create(text="Fog"))
        async with LiveClient() as client:
            cursor = (await client.subscribe("notices"))["cursor"]
        key = notice.pk

        def meanwhile() -> None:
            notice.text = "Storm"
            notice.save()
            notice.delete()
            Notice.objects.create(text="Came and went").delete()

        await sync(meanwhile)
        async with LiveClient() as client:
            await client.subscribe("notices", cursor=cursor)
            told = await missed(client)
            # The one that came and went may be told as gone, if the relay saw it.
            assert {event for event, _ in told} == {"delete"}
            assert key in {gone for _, keys in told for gone in keys}

    async def test_a_page_whose_child_changed_and_that_went_meanwhile_is_a_delete(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]

        def meanwhile() -> None:
            RelatedLink.objects.create(page=news.tram, title="Map", url="https://example.com")
            ArticlePage.objects.get(pk=news.tram.pk).delete()

        await sync(meanwhile)
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert await missed(client) == [("delete", [news.tram.pk])]

    async def test_descendants_of_a_section_moved_out_of_sight_meanwhile_are_deletes(
        self, news: Newsroom
    ) -> None:
        def prepare() -> SectionPage:
            home = type(news.home).objects.get(pk=news.home.pk)
            private: SectionPage = home.add_child(
                instance=SectionPage(title="Private", slug="private")
            )
            PageViewRestriction.objects.create(page=private, restriction_type="login")
            return private

        private = await sync(prepare)
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]
        await sync(lambda: Page.objects.get(pk=news.town.pk).move(private, "last-child"))
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert await missed(client) == [("delete", sorted([news.tram.pk, news.bells.pk]))]


@needs_tokens
class TestAuth:
    """A client says who it is by an access token: in a header, or in an ``auth`` message."""

    PRIVATE: ClassVar[dict[str, Any]] = {"type": "newsroom.ArticlePage", "fields": "title"}

    @pytest.fixture
    def text(self, news: Newsroom) -> str:
        """The token of the only one who may read the arts."""
        group = Group.objects.create(name="critics")
        restriction = PageViewRestriction.objects.create(
            page=news.arts, restriction_type=PageViewRestriction.GROUPS
        )
        restriction.groups.add(group)
        user = newsroom.add_user("critic")
        user.groups.add(group)
        return token_of(user)[1]

    @staticmethod
    def titles(frame: Frame) -> list[str]:
        return sorted(row["title"] for row in frame["data"])

    async def test_a_header_counts(self, text: str) -> None:
        header = (b"authorization", f"Bearer {text}".encode())
        async with LiveClient(origin=None, headers=[header]) as client:
            assert "Opera" in self.titles(await client.subscribe("pages", self.PRIVATE))

    async def test_a_header_that_does_not_count_is_never_the_public(self, text: str) -> None:
        header = (b"authorization", b"Bearer wagtail_x")
        async with LiveClient(headers=[header]) as client:
            answer = await client.subscribe("pages", self.PRIVATE, uid="a")
            assert (answer["error"]["code"], answer["uid"]) == ("INVALID_CREDENTIALS", "a")

    async def test_who_leaves_before_being_refused_leaves_no_complaint(
        self, text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        asked, answer = threading.Event(), threading.Event()

        def refuse(token: str) -> None:
            asked.set()
            answer.wait(10)
            raise InvalidCredentials

        monkeypatch.setattr(access_tokens, "find", refuse)
        before = asyncio.all_tasks()
        async with LiveClient(headers=[(b"authorization", b"Bearer wagtail_x")]) as client:
            client.say({"type": "subscribe", "collection": "pages"})
            assert await asyncio.to_thread(asked.wait, 10)
            looking_up = asyncio.all_tasks() - before
        answer.set()
        await asyncio.wait([task for task in looking_up if not task.done()], timeout=10)
        del looking_up
        gc.collect()
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    async def test_a_message_counts_and_is_answered_before_anything_that_it_opens(
        self, text: str
    ) -> None:
        async with LiveClient() as client:
            client.say({"type": "auth", "access_token": text})
            client.say({"type": "subscribe", "collection": "pages", "query": self.PRIVATE})
            assert await client.hear() == {"type": "auth", "status": "ok"}
            assert "Opera" in self.titles(await client.hear())

    @pytest.mark.parametrize(("uid", "echo"), [("a", "a"), (1, "1")])
    async def test_the_uid_comes_back(self, text: str, uid: Any, echo: str) -> None:
        async with LiveClient() as client:
            client.say({"type": "auth", "access_token": text, "uid": uid})
            assert await client.hear() == {"type": "auth", "status": "ok", "uid": echo}
            client.say({"type": "auth", "access_token": "x", "uid": uid})
            answer = await client.hear()
            assert (answer["type"], answer["uid"]) == ("auth", echo)

    async def test_what_was_followed_before_is_seen_anew(self, text: str, news: Newsroom) -> None:
        async with LiveClient() as client:
            assert "Opera" not in self.titles(
                await client.subscribe("pages", self.PRIVATE, uid="a")
            )
            client.say({"type": "auth", "access_token": text})
            assert (await client.hear())["status"] == "ok"
            again = await client.hear()
            assert (again["event"], again["uid"]) == ("init", "a")
            assert "Opera" in self.titles(again)
            await sync(lambda: publish(news.opera, title="Opera!"))
            [update] = await settled(client)
            assert update["event"] == "update"

    async def test_after_an_auth_that_does_not_count_nothing_goes_on_until_one_does(
        self, text: str, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            client.say({"type": "auth", "access_token": text})
            assert (await client.hear())["status"] == "ok"
            await client.subscribe("pages", self.PRIVATE, uid="a")
            client.say({"type": "auth", "access_token": "wagtail_x"})
            refused, deleted, ended = [await client.hear() for _ in range(3)]
            for answer, kind in (refused, "auth"), (ended, "subscription"):
                assert (answer["type"], answer["error"]["code"]) == (kind, "INVALID_CREDENTIALS")
            assert deleted["event"] == "delete"
            await sync(lambda: publish(news.opera, title="Opera!"))
            assert await settled(client) == []
            answer = await client.subscribe("pages", self.PRIVATE, uid="b")
            assert answer["error"]["code"] == "INVALID_CREDENTIALS"
            client.say({"type": "auth", "access_token": text})
            assert (await client.hear())["status"] == "ok"
            assert "Opera!" in self.titles(await client.subscribe("pages", self.PRIVATE))

    async def test_of_several_each_is_answered_and_the_last_one_counts(self, text: str) -> None:
        async with LiveClient() as client:
            client.say({"type": "auth", "access_token": "x", "uid": "1"})
            client.say({"type": "auth", "access_token": text, "uid": "2"})
            client.say({"type": "subscribe", "collection": "pages", "query": self.PRIVATE})
            answers = [await client.hear() for _ in range(3)]
            assert {one["uid"]: one["status"] for one in answers if one["type"] == "auth"} == {
                "1": "error",
                "2": "ok",
            }
            [init] = [one for one in answers if one["type"] == "subscription"]
            assert "Opera" in self.titles(init)
