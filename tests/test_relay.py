"""The relay: what goes wrong with one query stays there, and nothing is skipped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection
from wagtail.models import PageViewRestriction

from example_project.newsroom.models import Notice, SectionPage
from tests import newsroom
from tests.live import caught_up, end, settled, sync
from tests.newsroom import Newsroom, publish
from wagtail_live import feed, head, history, relay
from wagtail_live.exceptions import ServiceUnavailable
from wagtail_live.models import Entry, Head
from wagtail_live.representation import Representation
from wagtail_live.source import Source
from wagtail_live.testing import LiveClient

pytestmark = pytest.mark.usefixtures("committed")

ARTICLES = {"type": "newsroom.ArticlePage", "fields": "title"}


@pytest.fixture
def news() -> Newsroom:
    return newsroom.build()


@pytest.fixture(autouse=True)
async def quiet() -> AsyncIterator[None]:
    yield
    await end()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RETRY_SECONDS", (0.01, 0.01))


def failing(times: int) -> Any:
    """Return an ``answer`` that fails so many times for pages, and then answers."""
    real = Representation.answer
    failures = iter(range(times))

    def answer(self: Representation, *args: Any, **kwargs: Any) -> Any:
        if self.query.collection == "pages" and next(failures, None) is not None:
            raise OperationalError("the database went away")
        return real(self, *args, **kwargs)

    return answer


async def test_a_query_that_fails_for_a_moment_loses_nothing(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, quick_retries: None
) -> None:
    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        monkeypatch.setattr(Representation, "answer", failing(3))
        await sync(lambda: publish(news.tram, title="Late, not lost"))
        [frame] = await settled(client)
        assert frame["data"][0]["title"] == "Late, not lost"


async def test_a_query_that_keeps_failing_ends_with_an_error_and_the_others_go_on(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, quick_retries: None
) -> None:
    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES, uid="pages")
        await client.subscribe("notices", uid="notices")
        monkeypatch.setattr(Representation, "answer", failing(1000))
        await sync(lambda: publish(news.tram, title="Unanswerable"))
        notice = await sync(lambda: Notice.objects.create(text="Fog"))
        frames = {frame["uid"]: frame for frame in await settled(client)}
        assert frames["notices"]["data"][0]["id"] == notice.pk
        assert frames["pages"] == {
            "type": "subscription",
            "status": "error",
            "error": {
                "code": ServiceUnavailable.code,
                "message": ServiceUnavailable().message,
            },
            "uid": "pages",
        }
        monkeypatch.undo()
        again = await client.subscribe("pages", ARTICLES, uid="pages")
        assert "Unanswerable" in {row["title"] for row in again["data"]}


async def test_a_slow_query_delays_nobody_else(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    real = Representation.answer

    def answer(self: Representation, *args: Any, **kwargs: Any) -> Any:
        if self.query.collection == "pages":
            assert release.wait(30)
        return real(self, *args, **kwargs)

    async with LiveClient() as slow, LiveClient() as quick:
        await slow.subscribe("pages", ARTICLES)
        await quick.subscribe("notices")
        monkeypatch.setattr(Representation, "answer", answer)
        await sync(lambda: publish(news.tram, title="Slow"))
        notice = await sync(lambda: Notice.objects.create(text="Fog"))
        frame = await quick.hear()
        assert frame["data"][0]["id"] == notice.pk
        assert await slow.unheard() == []  # and its ping is answered
        release.set()
        [frame] = await settled(slow)
        assert frame["data"][0]["title"] == "Slow"


async def test_what_comes_while_a_query_is_busy_becomes_one_answer(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, asked = threading.Event(), []
    real = Representation.answer

    def answer(self: Representation, keys: Any, **kwargs: Any) -> Any:
        asked.append(keys)
        assert release.wait(30)
        return real(self, keys, **kwargs)

    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        monkeypatch.setattr(Representation, "answer", answer)
        await sync(lambda: publish(news.tram, title="One"))
        while not asked:
            await asyncio.sleep(0.005)
        await sync(lambda: publish(news.bells, title="Two"))
        await sync(lambda: publish(news.opera, title="Three"))
        newest = await sync(head.position)
        while relay.current().hub.position != newest:
            await asyncio.sleep(0.005)
        release.set()
        frames = await settled(client)
        assert [len(frame["data"]) for frame in frames] == [1, 2]
        assert len(asked) == 2


async def test_a_restored_log_gives_everybody_a_fresh_base(news: Newsroom) -> None:
    async with LiveClient() as client:
        init = await client.subscribe("pages", ARTICLES)
        backup = await sync(lambda: Head.objects.values().get())
        await sync(lambda: publish(news.tram, title="After the backup"))
        await settled(client)

        def restore() -> None:
            with connection.cursor() as cursor:
                cursor.execute(
                    "DELETE FROM wagtail_live_entry WHERE position > %s", [backup["position"]]
                )
            Head.objects.filter(pk=1).update(**backup)

        await sync(restore)
        frame = await client.hear()
        assert (frame["event"], frame["reset"]) == ("init", "renewed")
        await sync(lambda: publish(news.tram, title="In the new history"))
        [frame] = await settled(client)
        assert frame["data"][0]["title"] == "In the new history"
        resumed = await client.subscribe("pages", ARTICLES, cursor=init["cursor"], uid="r")
        assert resumed["event"] == "resume"


async def test_a_restored_log_waits_for_the_database(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.WAGTAIL_LIVE_POLL_SECONDS = 0.01
    failures = iter(range(3))
    real = Source.head

    def head(self: Source) -> Any:
        if next(failures, None) is not None:
            raise OperationalError("the database went away")
        return real(self)

    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        monkeypatch.setattr(Source, "head", head)
        await sync(lambda: Head.objects.filter(pk=1).update(position=0))
        frame = await client.hear()
        assert (frame["event"], frame["reset"]) == ("init", "renewed")


async def test_an_entry_that_cannot_be_followed_is_a_fresh_base(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, settings: Any, quick_retries: None
) -> None:
    settings.WAGTAIL_LIVE_POLL_SECONDS = 0.01

    def fail(*args: Any) -> Any:
        raise ZeroDivisionError

    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        monkeypatch.setattr(Source, "touched", fail)
        await sync(lambda: publish(news.tram, title="Through it all"))
        frame = await client.hear()
        assert (frame["event"], frame["reset"]) == ("init", "renewed")
        assert "Through it all" in {row["title"] for row in frame["data"]}
        monkeypatch.undo()
        await sync(lambda: publish(news.tram, title="On it goes"))
        [frame] = await settled(client)
        assert frame["data"][0]["title"] == "On it goes"


async def test_entries_that_the_database_refuses_are_a_fresh_base(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.WAGTAIL_LIVE_POLL_SECONDS = 0.01

    def fail(*args: Any) -> Any:
        raise OperationalError("too many SQL variables")

    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        monkeypatch.setattr(Source, "touched", fail)
        await sync(lambda: publish(news.tram, title="Refused"))
        frame = await client.hear()
        assert (frame["event"], frame["reset"]) == ("init", "renewed")


async def test_who_comes_while_the_log_is_read_for_nobody_misses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    since = Source.since

    def slow(*args: Any) -> Any:
        reading.set()
        assert go_on.wait(10)
        return since(*args)

    await relay.current().caught_up()
    monkeypatch.setattr(Source, "since", slow)
    await sync(lambda: Notice.objects.create(text="before"))
    assert await asyncio.to_thread(reading.wait, 10)
    async with LiveClient() as client:
        await client.subscribe("notices", "fields=text")
        await sync(lambda: Notice.objects.create(text="while it was read"))
        go_on.set()
        frames = await settled(client)
        told = {row["text"] for frame in frames for row in frame["data"]}
        assert "while it was read" in told


async def test_what_somebody_comes_with_before_it_is_told_reaches_the_others_too(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()
    since = Source.since

    def slow(*args: Any) -> Any:
        reading.set()
        assert go_on.wait(10)
        return since(*args)

    restriction = await sync(
        lambda: PageViewRestriction.objects.create(page=news.town, restriction_type="login")
    )
    monkeypatch.setattr(feed, "SNAPSHOT_SECONDS", 0.0)
    async with LiveClient() as early, LiveClient() as late:
        hidden = await early.subscribe("pages", ARTICLES)
        assert news.tram.pk not in {row["id"] for row in hidden["data"]}
        await settled(early)
        monkeypatch.setattr(Source, "since", slow)
        await sync(restriction.delete)
        assert await asyncio.to_thread(reading.wait, 10)
        seen = await late.subscribe("pages", ARTICLES)
        assert news.tram.pk in {row["id"] for row in seen["data"]}
        go_on.set()
        [frame] = await settled(early)
        assert frame["event"] == "create"
        assert news.tram.pk in {row["id"] for row in frame["data"]}


@pytest.mark.parametrize(
    ("problem", "code"),
    [(ZeroDivisionError, "INTERNAL_ERROR"), (InterfaceError, "SERVICE_UNAVAILABLE")],
)
async def test_who_could_not_be_known_for_a_moment_is_known_the_next_time(
    monkeypatch: pytest.MonkeyPatch, problem: type[Exception], code: str
) -> None:
    def fail(*args: Any) -> Any:
        raise problem

    async with LiveClient() as client:
        with monkeypatch.context() as patch:
            patch.setattr("wagtail_live.identity.identify", fail)
            answer = await client.subscribe("notices", "fields=text")
            assert answer["error"]["code"] == code
        answer = await client.subscribe("notices", "fields=text")
        assert answer["event"] == "init"


def test_who_left_before_a_move_missed_more_than_who_left_after_it(news: Newsroom) -> None:
    before = head.position().number
    arts = SectionPage.objects.get(pk=news.arts.pk)
    SectionPage.objects.get(pk=news.town.pk).move(arts, pos="last-child")
    publish(SectionPage.objects.get(pk=news.town.pk), title="Moved")
    entries = history.read(before)
    both = {one.position.number for one in entries if one.object_id == str(news.town.pk)}
    assert len(both) == 2
    assert both <= Source().touched(entries).steps["newsroom.articlepage"]


async def test_who_asks_a_relay_that_is_about_to_stop_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "CATCH_UP_SECONDS", 2.0)
    current = relay.current()
    await current.caught_up()
    monkeypatch.setattr(relay, "IDLE_SECONDS", -1.0)
    await current.caught_up()


async def test_a_relay_that_died_goes_on_where_it_was(news: Newsroom) -> None:
    current = relay.current()
    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        task = current._task
        assert task is not None
        task.cancel()
        await asyncio.wait([task])
        await sync(lambda: publish(news.tram, title="While it was dead"))
        await client.subscribe("notices", uid="wakes it")
        [frame] = await settled(client)
        assert frame["data"][0]["title"] == "While it was dead"


async def test_equal_askers_share_one_evaluation_and_the_feed_goes_with_the_last(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LINGER_SECONDS", 0.0)
    async with LiveClient() as one, LiveClient() as two:
        for client in (one, two):
            await client.subscribe("pages", ARTICLES)
        assert len(relay.current().hub) == 1
    current = relay.current()
    async with asyncio.timeout(5):
        while len(current.hub):
            await asyncio.sleep(0.005)


async def test_an_idle_relay_stops_and_wakes_with_the_next_follower(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(relay, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(relay, "IDLE_SECONDS", 0.0)
    settings.WAGTAIL_LIVE_POLL_SECONDS = 0.01
    current = relay.current()
    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
    async with asyncio.timeout(5):
        while current._task is not None:
            await asyncio.sleep(0.005)
    await sync(lambda: publish(news.tram, title="While nobody looked"))
    async with LiveClient() as client:
        init = await client.subscribe("pages", ARTICLES)
        assert "While nobody looked" in {row["title"] for row in init["data"]}
        await sync(lambda: publish(news.tram, title="Awake"))
        [frame] = await settled(client)
        assert frame["data"][0]["title"] == "Awake"


async def test_polling_alone_carries_everything(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.WAGTAIL_LIVE_POLL_SECONDS = 0.05
    monkeypatch.setattr("wagtail_live.bell.ring", lambda: None)
    monkeypatch.setattr("wagtail_live.log.number_and_ring", lambda **_: None)
    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        await sync(lambda: publish(news.tram, title="By the poll"))
        frame = await client.hear()
        assert frame["data"][0]["title"] == "By the poll"


async def test_the_log_is_pruned_in_the_background(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(relay, "PRUNE_SECONDS", 0.0)
    settings.WAGTAIL_LIVE_RETENTION_HOURS = 0
    settings.WAGTAIL_LIVE_POLL_SECONDS = 0.02
    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        await sync(lambda: publish(news.tram, title="Short-lived"))
        await caught_up()
        async with asyncio.timeout(5):
            while await sync(Entry.objects.exists):
                await asyncio.sleep(0.01)


async def test_trouble_with_a_query_is_not_taken_for_its_end(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch, quick_retries: None
) -> None:
    """What is no refusal is tried again: nobody is told that everything is gone."""
    real = Representation._filtered
    failures = iter(range(2))

    def filtered(self: Representation, view: Any) -> Any:
        if self.query.collection == "pages" and next(failures, None) is not None:
            raise TypeError("half a connection")
        return real(self, view)

    async with LiveClient() as client:
        await client.subscribe("pages", ARTICLES)
        monkeypatch.setattr(Representation, "_filtered", filtered)
        await sync(lambda: publish(news.tram, title="Still here"))
        [frame] = await settled(client)
        assert (frame["event"], frame["data"][0]["title"]) == ("update", "Still here")
