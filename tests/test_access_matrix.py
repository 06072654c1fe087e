"""
Before and after, for every cause: what could be read neither before nor after is felt nowhere, what
can be read from now on comes, what can be read no more leaves. As it happens, and for who returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from wagtail.models import Locale, Page, PageViewRestriction

from tests import newsroom
from tests.live import caught_up, settled, sync
from tests.newsroom import Newsroom, publish
from wagtail_live.testing import Frame, LiveClient

pytestmark = pytest.mark.usefixtures("committed", "quiet_relay")

ARTICLES = {"type": "newsroom.ArticlePage", "fields": "*", "order": "title"}


def nothing(news: Newsroom) -> None:
    """There is nothing to prepare."""


def fresh(page: Any) -> Any:
    return getattr(page, "specific_class", type(page)).objects.get(pk=page.pk)


def restrict(page: Page, *groups: Group) -> PageViewRestriction:
    kind = PageViewRestriction.GROUPS if groups else PageViewRestriction.LOGIN
    made: PageViewRestriction = PageViewRestriction.objects.create(page=page, restriction_type=kind)
    made.groups.set(groups)
    return made


def hide_arts(news: Newsroom) -> None:
    restrict(news.arts)


def hide_opera(news: Newsroom) -> None:
    restrict(news.opera)


def show_arts(news: Newsroom) -> None:
    PageViewRestriction.objects.get(page=news.arts).delete()


def unpublish(page: str) -> Callable[[Newsroom], None]:
    return lambda news: fresh(getattr(news, page)).unpublish()


def edit(page: str, **fields: Any) -> Callable[[Newsroom], None]:
    return lambda news: publish(getattr(news, page), **fields)


def move(page: str, below: str) -> Callable[[Newsroom], None]:
    def move(news: Newsroom) -> None:
        fresh(getattr(news, page)).move(fresh(getattr(news, below)), pos="last-child")

    return move


def draft(page: str) -> Callable[[Newsroom], None]:
    def save(news: Newsroom) -> None:
        page_now = fresh(getattr(news, page))
        page_now.title = "A draft that is nobody's business"
        page_now.save_revision()

    return save


def alias(page: str) -> Callable[[Newsroom], None]:
    def make(news: Newsroom) -> None:
        fresh(getattr(news, page)).create_alias(parent=fresh(news.town), update_slug="an-alias")

    return make


def both(*steps: Callable[[Newsroom], None]) -> Callable[[Newsroom], None]:
    def do(news: Newsroom) -> None:
        for step in steps:
            step(news)

    return do


def readers() -> Group:
    return Group.objects.get_or_create(name="Readers")[0]


def others() -> Group:
    return Group.objects.get_or_create(name="Others")[0]


def arts_for(*groups: Callable[[], Group]) -> Callable[[Newsroom], None]:
    def make(news: Newsroom) -> None:
        restrict(news.arts, *(group() for group in groups))

    return make


def arts_now_for(*groups: Callable[[], Group]) -> Callable[[Newsroom], None]:
    def change(news: Newsroom) -> None:
        PageViewRestriction.objects.get(page=news.arts).groups.set([group() for group in groups])

    return change


def german() -> Locale:
    return Locale.objects.get_or_create(language_code="de")[0]


def translate(page: str) -> Callable[[Newsroom], None]:
    def make(news: Newsroom) -> None:
        source = fresh(getattr(news, page))
        made = source.copy_for_translation(german(), copy_parents=True)
        made.save_revision().publish()

    return make


def translations_go(news: Newsroom) -> None:
    for page in Page.objects.filter(locale=german(), depth=2):
        page.specific.delete()


def prepare_translations(news: Newsroom) -> None:
    german()


@dataclass(frozen=True)
class Case:
    """``before`` prepares; ``change`` is told to a follower of ``query`` as ``event``."""

    cause: str
    event: str
    before: Callable[[Newsroom], None]
    change: Callable[[Newsroom], None]
    query: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.cause}: {self.event}"


ENGLISH, GERMAN = {"locale": "en"}, {"locale": "de"}
A_TRAM = {"title": "Tram"}
CASES = [
    Case("publish", "none", hide_arts, edit("opera", title="Aida")),
    Case("publish", "none", nothing, draft("tram")),
    Case("publish", "enter", unpublish("tram"), edit("tram")),
    Case("publish", "update", nothing, edit("tram", title="Trams")),
    Case("publish", "leave", nothing, edit("tram", title="Trams"), A_TRAM),
    Case("unpublish", "none", hide_arts, unpublish("opera")),
    Case("unpublish", "enter", unpublish("bells"), edit("bells", title="Tram"), A_TRAM),
    Case("unpublish", "update", nothing, unpublish("author")),
    Case("unpublish", "leave", nothing, unpublish("tram")),
    Case("move", "none", both(hide_arts, move("tram", "arts")), move("tram", "opera")),
    Case("move", "enter", hide_arts, move("opera", "town")),
    Case("move", "update", nothing, move("tram", "arts")),
    Case("move", "leave", hide_arts, move("tram", "arts")),
    Case("restriction", "none", hide_arts, hide_opera),
    Case("restriction", "enter", hide_arts, show_arts),
    Case("restriction", "update", hide_arts, both(hide_opera, edit("tram", title="Trams"))),
    Case("restriction", "leave", nothing, hide_arts),
    Case("group", "none", arts_for(others), arts_now_for()),
    Case("group", "enter", arts_for(others), arts_now_for(others, readers)),
    Case("group", "update", arts_for(readers), edit("opera", title="Aida")),
    Case("group", "leave", arts_for(readers), arts_now_for(others)),
    Case("filter", "none", nothing, edit("bells", title="Bell"), A_TRAM),
    Case("filter", "enter", nothing, edit("bells", title="Tram"), A_TRAM),
    Case("filter", "update", nothing, edit("tram", lead="Otherwise."), A_TRAM),
    Case("filter", "leave", nothing, edit("tram", title="Trams"), A_TRAM),
    Case("locale", "none", prepare_translations, translate("tram"), ENGLISH),
    Case("locale", "enter", prepare_translations, translate("tram"), GERMAN),
    Case("locale", "update", prepare_translations, edit("tram", lead="Otherwise."), ENGLISH),
    Case("locale", "leave", translate("tram"), translations_go, GERMAN),
    Case("alias", "none", hide_opera, alias("opera")),
    Case("alias", "enter", nothing, alias("opera")),
    Case("alias", "update", alias("opera"), edit("opera", title="Aida")),
    Case("alias", "leave", alias("opera"), hide_opera),
]
EVENTS = {"none": set(), "enter": {"create"}, "update": {"update"}, "leave": {"delete"}}


@pytest.fixture
def reader(settings: Any) -> dict[str, str]:
    """The cookies of somebody in one group, on a site with two languages."""
    settings.WAGTAIL_I18N_ENABLED = True
    settings.WAGTAIL_CONTENT_LANGUAGES = [("en", "English"), ("de", "German")]
    user = newsroom.add_user("reader")
    user.groups.add(readers())
    browser = Client(HTTP_HOST="localhost")
    browser.force_login(user)
    return {"sessionid": browser.cookies["sessionid"].value}


def cookies_of(case: Case, reader: dict[str, str]) -> dict[str, str] | None:
    return reader if case.cause == "group" else None


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_is_told_follows_from_before_and_after(
    case: Case, news: Newsroom, reader: dict[str, str]
) -> None:
    await sync(lambda: case.before(news))
    query = {**ARTICLES, **case.query}
    async with LiveClient(cookies=cookies_of(case, reader)) as client:
        base = await client.subscribe("pages", query, uid="a")
        await sync(lambda: case.change(news))
        frames = await settled(client)
        now = await client.subscribe("pages", query, uid="b")
    assert {frame["event"] for frame in frames} == EVENTS[case.event]
    assert held(base, frames) == rows(now)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_who_returns_has_what_may_be_read_now_and_feels_nothing_else(
    case: Case, news: Newsroom, reader: dict[str, str]
) -> None:
    await sync(lambda: case.before(news))
    query = {**ARTICLES, **case.query}
    cookies = cookies_of(case, reader)
    async with LiveClient(cookies=cookies) as client:
        base = await client.subscribe("pages", query, uid="a")
    await sync(lambda: case.change(news))
    await caught_up()
    async with LiveClient(cookies=cookies) as client:
        answer = await client.subscribe("pages", query, uid="a", cursor=base["cursor"])
        frames = await settled(client)
        now = await client.subscribe("pages", query, uid="b")
    if answer["event"] == "init":
        assert case.event != "none", answer["reset"]
        base = answer
    elif case.event == "none":
        # Who could read it may be told that it is not in the query: the log says no more of then.
        assert frames == [] or case.cause == "filter"
    assert held(base, frames) == rows(now)


def rows(frame: Frame) -> dict[int, Any]:
    return {row["id"]: row for row in frame["data"]}


def held(base: Frame, frames: list[Frame]) -> dict[int, Any]:
    """Return what a client holds that applied ``frames`` to its base."""
    found = rows(base)
    for frame in frames:
        for row in frame["data"]:
            if frame["event"] == "delete":
                found.pop(row, None)
            else:
                found[row["id"]] = row
    return found
