"""What an object refers to follows its own restrictions: hidden targets are as if deleted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.serializers import SerializerMethodField
from wagtail.api import APIField
from wagtail.documents import get_document_model
from wagtail.models import Collection, CollectionViewRestriction, PageViewRestriction, Site

from example_project.newsroom.models import ArticlePage, Author, Category
from tests.live import settled, sync
from tests.newsroom import Newsroom, add_image, publish
from wagtail_live.events import Audience
from wagtail_live.representation import Representation, parse
from wagtail_live.testing import LiveClient

pytestmark = pytest.mark.usefixtures("committed")

CANARY = "the hidden canary"
EVERYTHING = {"type": "newsroom.ArticlePage", "fields": "*"}


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


def public() -> Audience:
    return Audience(site=Site.objects.get().pk)


def member() -> Audience:
    return replace(public(), authenticated=True)


def private_collection() -> Collection:
    made: Collection = Collection.get_first_root_node().add_child(name="Private")
    CollectionViewRestriction.objects.create(collection=made, restriction_type="login")
    return made


def hide(thing: Any) -> Any:
    """Put an image or a document where the public may not look."""
    thing.collection = private_collection()
    thing.save()
    return thing


def listing(audience: Audience | None = None, **query: Any) -> dict[int, dict[str, Any]]:
    """Return the rows of all articles, by key."""
    asked = Representation(parse("pages", {**EVERYTHING, **query}, None), audience or public())
    return {key: json.loads(row) for key, row in asked.snapshot().rows}  # type: ignore[misc]


def detail(key: int, audience: Audience | None = None) -> dict[str, Any]:
    asked = Representation(parse("pages", {"fields": "*"}, key), audience or public())
    row: dict[str, Any] = json.loads(asked.snapshot().rows[0][1])
    return row


def stream(*blocks: tuple[str, Any]) -> str:
    return json.dumps([{"type": kind, "value": value} for kind, value in blocks])


def test_an_image_in_a_private_collection_is_no_image(news: Newsroom) -> None:
    publish(news.tram, image=add_image(CANARY))
    assert CANARY in json.dumps(detail(news.tram.pk))
    hide(ArticlePage.objects.get(pk=news.tram.pk).image)
    for row in (detail(news.tram.pk), listing()[news.tram.pk]):
        assert row["image"] is row["image_teaser"] is row["image_thumbnail"] is None
    assert detail(news.tram.pk, member())["image"]["title"] == CANARY


def test_a_draft_is_no_author(news: Newsroom) -> None:
    assert detail(news.tram.pk)["author"]["id"] == news.author.pk
    Author.objects.filter(pk=news.author.pk).update(live=False)
    assert detail(news.tram.pk)["author"] is None
    assert listing(fields="author(name)")[news.tram.pk]["author"] is None


def test_what_a_target_refers_to_is_narrowed_too(news: Newsroom) -> None:
    Author.objects.filter(pk=news.author.pk).update(portrait=hide(add_image(CANARY)))
    author = listing(fields="author(name,portrait)")[news.tram.pk]["author"]
    assert author["portrait"] is None
    assert author["name"] == "Inés"


def test_what_a_stream_chooses_is_narrowed_and_what_that_shows_too(news: Newsroom) -> None:
    image = add_image(CANARY)
    Author.objects.filter(pk=news.author.pk).update(portrait=image)
    body = stream(
        ("picture", {"image": image.pk, "caption": "A caption"}), ("author", news.author.pk)
    )
    publish(news.tram, body=body)
    hide(image)
    picture, author = (block["value"] for block in detail(news.tram.pk)["body"])
    assert picture == {"image": None, "caption": "A caption"}
    assert author["portrait"] is None
    assert detail(news.tram.pk, member())["body"][0]["value"]["image"]["title"] == CANARY


@pytest.mark.parametrize("text_format", ["db_html", "html", "db_markdown", "markdown"])
def test_rich_text_does_not_lead_to_what_is_hidden(news: Newsroom, text_format: str) -> None:
    document = get_document_model().objects.create(title=CANARY, file=ContentFile(b".", "hid.txt"))
    publish(news.opera, slug="the-hidden-slug")
    text = (
        f'<p><a linktype="page" id="{news.opera.pk}">Opera</a>, '
        f'<a linktype="document" id="{document.pk}">list</a>, '
        f'<a linktype="page" id="{news.town.pk}">town</a>, <a href="/x/">x</a>, '
        '<a linktype="page" id="none">nowhere</a></p>'
    )
    publish(news.tram, body=stream(("paragraph", text)))
    before = json.dumps(detail_in(news.tram.pk, text_format))
    hide(document)
    PageViewRestriction.objects.create(page=news.arts, restriction_type="login")
    hidden = json.dumps(detail_in(news.tram.pk, text_format))
    document.delete()
    news.opera.delete()
    assert hidden == json.dumps(detail_in(news.tram.pk, text_format)) != before
    assert "hidden" not in hidden
    assert "hid.txt" not in hidden


def detail_in(key: int, text_format: str) -> Any:
    try:
        query = parse("pages", {"rich_text_format": text_format}, key)
        return json.loads(Representation(query, public()).snapshot().rows[0][1])["body"]
    except Exception as problem:
        if "rich_text_format" in str(problem):
            pytest.skip("this Wagtail knows one format")
        raise


def test_relations_to_many_leave_out_what_is_hidden(
    news: Newsroom, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    PageViewRestriction.objects.create(page=news.arts, restriction_type="login")
    publish(news.opera, author=news.author)
    shown = [*Author.api_fields, APIField("articles")]
    monkeypatch.setattr(Author, "api_fields", shown)
    found = json.loads(
        Representation(parse("authors", {}, news.author.pk), public()).snapshot().rows[0][1]
    )
    assert [row["id"] for row in found["articles"]] == [news.tram.pk]


def test_code_of_the_site_does_not_meet_what_is_hidden(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Credit(SerializerMethodField):
        def to_representation(self, page: Any) -> str:
            return page.author.portrait.title if page.author.portrait else "nobody"

    monkeypatch.setattr(
        ArticlePage,
        "api_fields",
        [*ArticlePage.api_fields, APIField("credit", serializer=Credit())],
    )
    Author.objects.filter(pk=news.author.pk).update(portrait=add_image(CANARY))
    assert detail(news.tram.pk)["credit"] == CANARY
    hide(Author.objects.get(pk=news.author.pk).portrait)
    assert detail(news.tram.pk)["credit"] == "nobody"


def test_nothing_is_asked_where_nothing_can_be_hidden(news: Newsroom) -> None:
    publish(news.tram, image=add_image())
    category = Category.objects.create(name="News", slug="news")
    publish(news.tram, categories=[category])
    listing(fields="image,categories")
    with CaptureQueriesContext(connection) as one:
        listing(fields="title,lead")
    with CaptureQueriesContext(connection) as with_image:
        listing(fields="title,lead,image(title)", limit=1, order="title")
    assert len(with_image) <= len(one) + 2  # the image itself, and which collections are restricted


# As it happens, and for who comes back


def edit(image: Any) -> None:
    image.title = "another title"
    image.save()


@pytest.mark.parametrize("query", [{}, {"limit": 1, "order": "-title"}], ids=["shown", "beyond"])
@pytest.mark.parametrize("away", [False, True], ids=["follows", "returns"])
async def test_a_change_of_what_is_hidden_is_felt_nowhere(
    news: Newsroom, quiet_relay: None, query: dict[str, Any], away: bool
) -> None:
    def prepare() -> Any:
        image = hide(add_image(CANARY))
        publish(news.bells, image=image)
        return image

    image = await sync(prepare)
    query = {**EVERYTHING, **query}
    async with LiveClient() as client:
        init = await client.subscribe("pages", query, uid="a")
        if not away:
            await sync(lambda: edit(image))
            assert await settled(client) == []
            await sync(lambda: publish(news.bells, title="Seen"))
            frames = await settled(client)
            assert [frame["event"] for frame in frames] == ["update"]
    if away:
        await sync(lambda: edit(image))
        async with LiveClient() as client:
            answer = await client.subscribe("pages", query, uid="a", cursor=init["cursor"])
            assert answer["event"] == "resume"
            assert "cursor" in answer  # and so no frame follows
            assert await settled(client) == []


@pytest.mark.parametrize("away", [False, True], ids=["follows", "returns"])
async def test_a_page_changes_when_what_it_refers_to_is_hidden(
    news: Newsroom, quiet_relay: None, away: bool
) -> None:
    def prepare() -> Any:
        image = add_image(CANARY)
        publish(news.tram, image=image)
        image.collection = Collection.get_first_root_node().add_child(name="Pictures")
        image.save()
        return image.collection

    def restrict() -> None:
        CollectionViewRestriction.objects.create(collection=collection, restriction_type="login")

    collection = await sync(prepare)
    async with LiveClient() as client:
        init = await client.subscribe("pages", EVERYTHING, uid="a")
        if not away:
            await sync(restrict)
            frames = await settled(client)
    if away:
        await sync(restrict)
        async with LiveClient() as client:
            await client.subscribe("pages", EVERYTHING, uid="a", cursor=init["cursor"])
            frames = await settled(client)
    assert {frame["event"] for frame in frames} == {"update"}
    rows = [row for frame in frames for row in frame["data"]]
    assert {(row["id"], row["image"]) for row in rows} == {(news.tram.pk, None)}


async def test_a_restriction_on_what_was_hidden_anyway_is_felt_nowhere(
    news: Newsroom, quiet_relay: None
) -> None:
    def prepare() -> Any:
        outer = private_collection()
        inner = outer.add_child(name="Inner")
        image = add_image(CANARY)
        image.collection = inner
        image.save()
        PageViewRestriction.objects.create(page=news.arts, restriction_type="login")
        return inner

    def restrict() -> None:
        CollectionViewRestriction.objects.create(collection=inner, restriction_type="login")
        PageViewRestriction.objects.create(page=news.opera, restriction_type="login")

    inner = await sync(prepare)
    async with LiveClient() as client:
        cursors = {
            name: (await client.subscribe(name, {}, uid=name))["cursor"]
            for name in ("pages", "images")
        }
        await sync(restrict)
        assert await settled(client) == []
    async with LiveClient() as client:
        for name, cursor in cursors.items():
            answer = await client.subscribe(name, {}, uid=name, cursor=cursor)
            assert answer["event"] == "resume", answer
        assert await settled(client) == []
