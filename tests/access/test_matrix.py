"""
Every asker, every collection, every kind of object, every transport: one verdict, the same fields.

What REST and Wagtail's own serving say is the truth; at the subscription, at an event and at a
replay each transport says the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Model
from wagtail.models import Page, Site

from tests.access.askers import Asker
from tests.access.transports import TRANSPORTS
from tests.access.world import ASKERS, QUERIES, Things, make
from tests.conftest import empty_tables
from tests.live import end, sync
from wagtail_live import relay
from wagtail_live.testing import Frame

Rows = dict[Any, Any]
TITLES = ("title", "name", "text")
MISSING = 10**6


@pytest.fixture(scope="module")
def things(django_db_setup: None, django_db_blocker: Any) -> Iterator[Things]:
    """The world, written once: nobody's test takes anything away."""
    with django_db_blocker.unblock():
        yield make()
        empty_tables()
        connection.close()


@pytest.fixture
async def asker(request: Any, things: Things) -> AsyncIterator[Asker]:
    yield await sync(ASKERS[request.param])
    await end()
    await sync(lambda: get_user_model().objects.update(is_active=True))


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("asker", ASKERS, indirect=True)
async def test_each_transport_says_what_rest_says(
    asker: Asker, query: tuple[str, dict[str, Any]], things: Things
) -> None:
    truth = await sync(lambda: Truth.now(asker, query, things))
    open_ = {kind: thing.pk for kind, thing in truth.kinds.items() if truth.details[kind]}
    async with AsyncExitStack() as stack:
        everywhere = {}
        for name, ask in TRANSPORTS.items():
            about = partial(ask, asker, truth.collection)
            listing = await stack.enter_async_context(about(query=truth.address))
            assert rows_of(listing.first) == truth.rows, name
            items = {
                kind: await stack.enter_async_context(about(item=thing.pk))
                for kind, thing in truth.kinds.items()
            }
            async with about(item=MISSING) as nothing:
                assert data_of(nothing.first) is None
            for kind, one in items.items():
                assert data_of(one.first) == truth.details[kind], (name, kind)
                assert kind in open_ or one.first == nothing.first, (name, kind)
            everywhere[name] = listing, items

        await sync(lambda: touch(truth.kinds.values()))
        truth = await sync(lambda: Truth.now(asker, query, things))
        cursors = {}
        for name, (listing, items) in everywhere.items():
            cursors[name] = listing.first["cursor"], {k: items[k].first["cursor"] for k in open_}
            truth.hold(await listing.news(), may_leave=truth.elsewhere if name == "feed" else ())
            for kind in open_:
                truth.hold(await items[kind].news(), kind)
            for kind in items.keys() - open_.keys():
                assert await items[kind].news() == [], (name, kind)

    # A process that has never told anybody anything replays.
    await relay.current().close()
    for name, ask in TRANSPORTS.items():
        about = partial(ask, asker, truth.collection)
        cursor, of_items = cursors[name]
        async with about(query=truth.address, cursor=cursor) as listing:
            assert listing.first["event"] == "resume", name
            truth.hold(await listing.news(), may_leave=truth.elsewhere)
        for kind, key in open_.items():
            async with about(item=key, cursor=of_items[kind]) as one:
                assert one.first["event"] == "resume", (name, kind)
                truth.hold(await one.news(), kind)


@dataclass(frozen=True)
class Truth:
    """
    What REST and Wagtail's own serving say to an asker.

    ``rows`` by id, ``details`` by kind, None for what is refused. ``elsewhere``: ids of what the
    asker may read on the other sites: no secret, though not followed.
    """

    collection: str
    address: str
    kinds: dict[str, Model]
    rows: Rows
    details: dict[str, Any]
    elsewhere: Collection[Any]

    @classmethod
    def now(cls, asker: Asker, query: tuple[str, dict[str, Any]], things: Things) -> Truth:
        collection, parameters = query
        kinds = things[collection]
        return cls(
            collection,
            urlencode(parameters),
            kinds,
            _listing(asker, collection, parameters),
            {kind: _detail(asker, collection, thing) for kind, thing in kinds.items()},
            _elsewhere(asker, parameters) if collection == "pages" else (),
        )

    def hold(self, frames: list[Frame], kind: str = "", may_leave: Collection[Any] = ()) -> None:
        """
        Hold ``frames`` to it: of all kinds that were touched, or of one, as it is, and no others.

        ``may_leave``: keys that may be said to have left.
        """
        rows = {self.kinds[kind].pk: self.details[kind]} if kind else self.rows
        told: Rows = {}
        for frame in frames:
            if frame["event"] == "delete":
                assert set(frame["data"]) <= set(may_leave), frame
                continue
            assert frame["event"] in {"create", "update"}, frame
            told |= {row["id"]: row for row in frame["data"]}
        assert told == {key: rows.get(key) for key in told}
        touched = {thing.pk for thing in self.kinds.values()} & rows.keys()
        assert touched <= told.keys()


def rows_of(frame: Frame) -> Rows:
    assert frame["event"] == "init", frame
    return {row["id"]: row for row in frame["data"]}


def data_of(frame: Frame) -> Any:
    if frame.get("event") == "init":
        return frame["data"]
    assert frame["error"]["code"] == "FORBIDDEN", frame
    return None


# What REST and Wagtail's own serving say


def _listing(asker: Asker, collection: str, parameters: dict[str, Any]) -> Rows:
    found = _get(asker, f"{collection}/", parameters)["items"]
    return {row["id"]: row for row in found if _served(asker, collection, row["id"])}


def _detail(asker: Asker, collection: str, thing: Model) -> Any:
    found = _get(asker, f"{collection}/{thing.pk}/", {})
    return found if found and _served(asker, collection, thing.pk) else None


def _elsewhere(asker: Asker, parameters: dict[str, Any]) -> frozenset[Any]:
    hosts = Site.objects.values_list("hostname", flat=True)
    asked = [{**parameters, "fields": "_,id", "site": host} for host in hosts]
    return frozenset().union(*(_listing(asker, "pages", one) for one in asked))


def _get(asker: Asker, path: str, parameters: dict[str, Any]) -> Any:
    answer = asker.browser.get(f"/api/v2/{path}", parameters)
    return json.loads(answer.content) if answer.status_code == 200 else None


def _served(asker: Asker, collection: str, key: Any) -> bool:
    """Return whether Wagtail would serve the page: its API forgets the source of an alias."""
    if collection != "pages":
        return True
    request = asker.request()
    page = Page.objects.get(pk=key)
    return page.live and all(rule.accept_request(request) for rule in page.get_view_restrictions())


def touch(things: Iterable[Model]) -> None:
    """Change a word of each, all at once."""
    with transaction.atomic():
        for thing in things:
            thing.refresh_from_db()
            name = next(name for name in TITLES if hasattr(thing, name))
            word = getattr(thing, name)
            number = int(found[0]) if (found := re.findall(r"\d+$", word)) else 0
            setattr(thing, name, f"{word.removesuffix(f' {number}')} {number + 1}")
            thing.save()
