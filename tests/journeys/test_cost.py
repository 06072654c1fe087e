"""What following and publishing cost, in queries: not more for more followers, one insert more."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import connection, connections, transaction
from django.db.models import signals
from django.dispatch import Signal
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from treebeard import mp_tree
from wagtail import signals as wagtail_signals

from example_project.newsroom.models import ArticlePage, Notice
from tests import newsroom
from tests.journeys.forms import article_form
from tests.live import caught_up
from tests.newsroom import Newsroom
from wagtail_live import database, relay
from wagtail_live.models import Entry
from wagtail_live.testing import LiveClient

pytestmark = [pytest.mark.measured, pytest.mark.usefixtures("committed")]

ARTICLES = {"type": "newsroom.ArticlePage", "fields": "title,lead,author(name)", "order": "title"}
FEW, MANY, HERD = 10, 1000, 200
HEARD_BY = (
    signals.pre_save,
    signals.post_save,
    signals.pre_delete,
    signals.post_delete,
    signals.m2m_changed,
    wagtail_signals.pre_page_move,
    wagtail_signals.post_page_move,
    getattr(mp_tree, "path_updated", Signal()),
)


def sync(function: Callable[[], Any]) -> Any:
    return sync_to_async(function, thread_sensitive=True)()


@pytest.fixture
def news() -> Newsroom:
    return newsroom.build()


class Pool:
    """Counts the queries of the pool's threads, and knows when the relay found nothing more."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.idle_reads = 0
        self._attempt = database._attempt

    def attempt(self, job: Any) -> Any:
        with connection.execute_wrapper(self._count):
            result = self._attempt(job)
        if getattr(job, "func", None) is relay._read_news and result.batch is None:
            self.idle_reads += 1
        return result

    def _count(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.queries.append(sql)
        return execute(sql, params, many, context)


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch, settings: Any) -> AsyncIterator[Pool]:
    # The bell alone starts a read, so that as many are counted however long it all takes.
    settings.WAGTAIL_LIVE_POLL_SECONDS = 3600.0
    pool = Pool()
    monkeypatch.setattr(database, "_attempt", pool.attempt)
    yield pool
    await relay.current().close()
    await database.disconnect()
    await sync(connections.close_all)


async def one_change(page: ArticlePage, title: str, pool: Pool, clients: list[LiveClient]) -> Any:
    """Publish, wait until all have heard it and the relay is idle; return queries and frames."""

    def publish() -> None:
        with transaction.atomic():  # one commit, so one ring
            newsroom.publish(page, title=title)

    pool.queries.clear()
    reads = pool.idle_reads
    await sync(publish)
    async with asyncio.timeout(60):
        texts = [(await client._to_client.get())["text"] for client in clients]
        while pool.idle_reads == reads or relay.current().busy:
            await asyncio.sleep(0.005)
    assert all(client._to_client.empty() for client in clients)
    return list(pool.queries), texts


async def test_a_change_costs_as_many_queries_for_a_thousand_followers_as_for_ten(
    news: Newsroom, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        clients: list[LiveClient] = []
        counted = {}
        for number in (FEW, MANY):
            while len(clients) < number:
                client = await stack.enter_async_context(LiveClient(origin=None))
                init = await client.subscribe("pages", ARTICLES, uid="a")
                assert init["event"] == "init", init
                clients.append(client)
            await one_change(news.tram, f"Warm up for {number}", pool, clients)
            counted[number], texts = await one_change(news.tram, f"For {number}", pool, clients)
            assert len(texts) == number
            assert f"For {number}" in texts[0]
            # Not equal texts: the same one, encoded once.
            assert len({id(text) for text in texts}) == 1
        assert len(relay.current().hub) == 1
    with capsys.disabled():
        print(
            f"\none change: {len(counted[FEW])} queries for {FEW} followers of one query, "
            f"{len(counted[MANY])} for {MANY}; its frame is encoded once"
        )
    # Several threads work at once: their order is not the same.
    assert sorted(counted[FEW]) == sorted(counted[MANY])


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what disconnects the package's receivers, as if it was not installed."""

    def disconnect() -> None:
        for signal in HEARD_BY:
            others = [one for one in signal.receivers if not _is_ours(one)]
            monkeypatch.setattr(signal, "receivers", others)
            signal.sender_receivers_cache.clear()

    return disconnect


async def come_back(cursors: list[str], pool: Pool) -> tuple[int, list[str]]:
    """Resume with each cursor, all at once, in a fresh process; return queries and answers."""
    await relay.current().close()
    pool.queries.clear()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(LiveClient()) for _ in cursors]
        for client, cursor in zip(clients, cursors, strict=True):
            client.say(
                {"type": "subscribe", "collection": "pages", "query": ARTICLES, "cursor": cursor}
            )
        answers = [await client.hear() for client in clients]
    # Who somebody is, is asked for each.
    askers = sum("wagtailcore_site" in sql for sql in pool.queries)
    return len(pool.queries) - askers, [answer["event"] for answer in answers]


async def test_a_herd_that_comes_back_to_a_fresh_process_costs_as_many_queries_as_a_few(
    news: Newsroom, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were last told at different times; what matters to them has changed twice since."""
    cursors = []
    async with LiveClient() as client:
        for number in range(5):
            cursors.append((await client.subscribe("pages", ARTICLES, uid=str(number)))["cursor"])
            await sync(lambda number=number: Notice.objects.create(text=str(number)))
            await caught_up()
        await sync(lambda: newsroom.publish(news.tram, title="One"))
        await sync(lambda: newsroom.publish(news.bells, title="Two"))
        await caught_up()
        told = await client.unheard()
        assert {frame["event"] for frame in told} == {"update"}
    costs = {}
    for many in (FEW, HERD):
        costs[many], events = await come_back([cursors[n % 5] for n in range(many)], pool)
        assert set(events) == {"resume"}
    with capsys.disabled():
        print(f"\nqueries for a herd that comes back to a fresh process: {costs}")
    assert costs[FEW] == costs[HERD]


@pytest.fixture(autouse=True)
def fresh_receiver_caches() -> Iterator[None]:
    yield
    for signal in HEARD_BY:
        signal.sender_receivers_cache.clear()


def _is_ours(receiver: Any) -> bool:
    uid = receiver[0][0]
    return isinstance(uid, str) and uid.startswith("wagtail_live")


class Editor:
    """The admin's publish button, without a browser."""

    def __init__(self, news: Newsroom) -> None:
        self.news = news
        self.browser = Client()
        user = newsroom.add_user("chief", is_superuser=True, is_staff=True)
        self.browser.force_login(user)

    def publish(self, page: ArticlePage, title: str) -> list[str]:
        """Publish through the admin's view; return the SQL, BEGIN and COMMIT included."""
        url = reverse("wagtailadmin_pages:edit", args=(page.pk,))
        return self._post(url, article_form(page.slug, title, self.news.author.pk))

    def publish_new(self, title: str) -> list[str]:
        args = ("newsroom", "articlepage", self.news.town.pk)
        form = article_form(title.lower().replace(" ", "-"), title, self.news.author.pk)
        return self._post(reverse("wagtailadmin_pages:add", args=args), form)

    def _post(self, url: str, form: dict[str, Any]) -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            response = self.browser.post(url, form)
        assert response.status_code == 302, response.content[:2000]
        return [query["sql"] for query in captured]


def cost(said: list[str]) -> Counter[str]:
    """Return how often SQL does what: the package's statements, other ones, transactions."""
    return Counter(_kind(sql) for sql in said)


def _kind(sql: str) -> str:
    verb = sql.split(maxsplit=1)[0].upper()
    if "wagtail_live_" in sql:
        return f"{verb} of ours"
    return verb if verb in {"BEGIN", "COMMIT"} else "other"


@pytest.mark.parametrize(
    ("new", "changes"),
    # Wagtail commits a new page twice, live both times: each is a change that readers see.
    [(False, 1), (True, 2)],
    ids=["an edit", "a new page"],
)
def test_publishing_costs_one_insert_and_one_short_transaction_for_each_commit_that_shows(
    new: bool,
    changes: int,
    news: Newsroom,
    unheard: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    editor = Editor(news)

    def publish(title: str) -> list[str]:
        return editor.publish_new(title) if new else editor.publish(news.tram, title)

    publish("Warm up")
    entries = Entry.objects.count()
    heard = publish("Heard")
    assert Entry.objects.count() == entries + changes
    unheard()
    alone = publish("Alone")
    assert Entry.objects.count() == entries + changes
    more = cost(heard)
    more.subtract(cost(alone))
    with capsys.disabled():
        print(
            f"\npublishing {'a new page' if new else 'an edit'}: {len(alone)} statements without, "
            f"{len(heard)} with the package: {dict(sorted(more.items()))}"
        )
    assert more["INSERT of ours"] == changes
    assert more["BEGIN"] == more["COMMIT"] == changes
    assert more["other"] == 0
    # In Wagtail's transactions there is the insert alone; what else is ours comes after a commit.
    ours_in = [
        {sql.split()[0] for sql in one if "wagtail_live_" in sql} for one in _in_parts(heard)
    ]
    assert [kinds for kinds in ours_in if kinds] == [{"INSERT"}, {"SELECT", "UPDATE"}] * changes


def _in_parts(said: list[str]) -> list[list[str]]:
    """Return the statements transaction by transaction, with what lies between."""
    parts: list[list[str]] = [[]]
    for sql in said:
        if sql.startswith("BEGIN"):
            parts.append([])
        parts[-1].append(sql)
        if sql.startswith("COMMIT"):
            parts.append([])
    return parts


@pytest.fixture
def closed_port() -> int:
    return 1


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_publishing_succeeds_while_the_channel_layer_is_down(
    port: str,
    news: Newsroom,
    settings: Any,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    editor = Editor(news)
    editor.publish(news.tram, "Warm up")
    took = {}
    for layer in ("up", "down"):
        if layer == "down":
            host = f"redis://127.0.0.1:{request.getfixturevalue(port)}"
            settings.CHANNEL_LAYERS = {
                "default": {
                    "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
                    "CONFIG": {"hosts": [host]},
                }
            }
        get_channel_layer()  # made once per process, and imported then
        began = time.perf_counter()
        editor.publish(news.tram, f"Layer {layer}")
        took[layer] = (time.perf_counter() - began) * 1000
    assert ArticlePage.objects.get(pk=news.tram.pk).title == "Layer down"
    assert not Entry.objects.filter(position=None).exists()
    with capsys.disabled():
        print(
            f"\na publish request: {took['up']:.0f} ms with the channel layer in memory, "
            f"{took['down']:.0f} ms with Redis down ({port.replace('_', ' ')})"
        )
