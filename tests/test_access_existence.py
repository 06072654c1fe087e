"""What is not for somebody and what is not there are the same answer, from the same queries."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from wagtail.models import Collection, CollectionViewRestriction, PageViewRestriction, Site

from example_project.newsroom.models import Author
from tests.newsroom import Newsroom, add_image
from wagtail_live import protocol
from wagtail_live.events import Audience
from wagtail_live.exceptions import LiveError
from wagtail_live.representation import Representation, parse

pytestmark = pytest.mark.usefixtures("committed")

MISSING = 999_999


def ask(collection: str, query: dict[str, Any], item: int | None = None) -> tuple[str, list[str]]:
    """Return the frame that refuses, and the queries without their values."""
    asker = Audience(site=Site.objects.get().pk)
    with CaptureQueriesContext(connection) as captured:
        try:
            Representation(parse(collection, query, item), asker).snapshot()
        except LiveError as problem:
            answer = protocol.error("subscription", problem, "a")
        else:
            raise AssertionError("it was answered")
    return answer, [query["sql"].split(" WHERE ")[0] for query in captured]


def hidden_page(news: Newsroom) -> int:
    PageViewRestriction.objects.create(page=news.opera, restriction_type="login")
    return int(news.opera.pk)


def draft_page(news: Newsroom) -> int:
    news.opera.unpublish()
    return int(news.opera.pk)


def hidden_image(news: Newsroom) -> int:
    image = add_image()
    image.collection = Collection.get_first_root_node().add_child(name="Private")
    image.save()
    CollectionViewRestriction.objects.create(collection=image.collection, restriction_type="login")
    return int(image.pk)


def draft_author(news: Newsroom) -> int:
    Author.objects.filter(pk=news.author.pk).update(live=False)
    return int(news.author.pk)


@pytest.mark.parametrize(
    ("collection", "hide"),
    [
        ("pages", hidden_page),
        ("pages", draft_page),
        ("images", hidden_image),
        ("authors", draft_author),
    ],
)
def test_an_item_that_is_hidden_is_as_one_that_is_missing(
    collection: str,
    hide: Callable[[Newsroom], int],
    news: Newsroom,
    settings: Any,
    tmp_path: Any,
) -> None:
    settings.MEDIA_ROOT = tmp_path
    key = hide(news)
    ask(collection, {}, MISSING)  # fills Wagtail's own caches
    assert ask(collection, {}, key) == ask(collection, {}, MISSING)


@pytest.mark.parametrize("name", ["child_of", "descendant_of", "ancestor_of", "translation_of"])
@pytest.mark.parametrize("hide", [hidden_page, draft_page])
def test_a_query_about_a_page_that_is_hidden_is_as_about_one_that_is_missing(
    name: str, hide: Callable[[Newsroom], int], news: Newsroom
) -> None:
    key = hide(news)
    ask("pages", {name: MISSING})
    assert ask("pages", {name: key}) == ask("pages", {name: MISSING})
    assert json.loads(ask("pages", {name: key})[0])["status"] == "error"
