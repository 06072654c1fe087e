"""Which policy answers: a collection's own, else its site's, else the default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.test import RequestFactory
from wagtail.models import Page, Site

from example_project.newsroom.models import Author
from tests import newsroom
from tests.newsroom import Newsroom
from wagtail_live import policies
from wagtail_live.events import Audience, Query
from wagtail_live.exceptions import InvalidQuery
from wagtail_live.models import Ticket
from wagtail_live.policies import Policies, asker
from wagtail_live.policy import Policy
from wagtail_live.representation import Representation

pytestmark = pytest.mark.django_db


class Empty(Policy):
    """Shows no rows."""

    def visible(self, queryset: QuerySet[Any], audience: Audience) -> QuerySet[Any]:
        return super().visible(queryset, audience).none()


class Personal(Policy):
    """Looks at more than the default does."""

    def audience(self, request: HttpRequest) -> Audience:
        return replace(super().audience(request), extra=(request.headers.get("x-tenant"),))


class Forgetful(Policy):
    """Says who asks without a word of what was brought."""

    def audience(self, request: HttpRequest) -> Audience:
        return Audience(authenticated=True)


class NoNames(Policy):
    """Hides what authors are called."""

    def fields(self, model: type[Model], audience: Audience) -> frozenset[str] | None:
        return frozenset({"id", "type", "detail_url", "role"}) if model is Author else None


class Articles(Policy):
    """Hides the slugs of articles and where they are."""

    def fields(self, model: type[Model], audience: Audience) -> frozenset[str] | None:
        if model.__name__ == "ArticlePage":
            return frozenset({"id", "type", "detail_url", "title", "author", "locale"})
        return None


@pytest.fixture
def news() -> Iterator[Newsroom]:
    yield newsroom.build()
    Site.clear_site_root_paths_cache()


def asked(tenant: str = "") -> HttpRequest:
    request = RequestFactory().get("/", headers={"host": "localhost", "x-tenant": tenant})
    request.user = AnonymousUser()
    return request


def rows(collection: str, **parameters: str) -> str:
    query = Query(collection, tuple(sorted(parameters.items())))
    here = Audience(site=Site.objects.get().pk)
    return str(Representation(query, here).snapshot().rows)


def test_a_collection_and_a_site_have_their_own(news: Newsroom, settings: Any) -> None:
    settings.WAGTAIL_LIVE_POLICY = {
        "sites": {f"localhost:{news.site.port}": f"{__name__}.NoNames"},
        "collections": {"categories": f"{__name__}.Empty"},
    }
    here = Policies(Audience(site=news.site.pk))
    assert type(here.of("authors")[0]) is NoNames
    assert type(here.of("categories")[0]) is Empty
    assert here.of("categories")[0].collection == "categories"
    elsewhere = Policies(Audience(site=None))
    assert type(elsewhere.of("authors")[0]) is Policy


def test_a_site_is_known_by_its_host_alone(news: Newsroom, settings: Any) -> None:
    settings.WAGTAIL_LIVE_POLICY = {"sites": {"localhost": f"{__name__}.Personal"}}
    assert policies.audience(asked("x")).extra == ("x",)


def test_only_the_collection_whose_policy_looks_at_more_sees_it(
    news: Newsroom, settings: Any
) -> None:
    settings.WAGTAIL_LIVE_POLICY = {"collections": {"authors": f"{__name__}.Personal"}}
    found = policies.audience(asked("x"))
    assert found.extra == ()
    assert asker(found, "authors").extra == ("x",)
    assert asker(found, "pages") == found
    assert found != policies.audience(asked("y"))


def test_what_is_hidden_where_it_lives_is_hidden_where_it_is_nested(
    news: Newsroom, settings: Any
) -> None:
    settings.WAGTAIL_LIVE_POLICY = {"collections": {"authors": f"{__name__}.NoNames"}}
    shown = {"type": "newsroom.ArticlePage", "fields": "author(*)"}
    assert "role" in rows("pages", **shown)
    assert "Inés" not in rows("pages", **shown)
    with pytest.raises(InvalidQuery, match="unknown field"):
        rows("pages", type="newsroom.ArticlePage", fields="author(name)")


def test_an_order_by_a_relation_does_not_tell_what_is_hidden(news: Newsroom, settings: Any) -> None:
    by_author = {"type": "newsroom.ArticlePage", "order": "-author"}
    assert rows("pages", **by_author)
    settings.WAGTAIL_LIVE_POLICY = {"collections": {"authors": f"{__name__}.NoNames"}}
    with pytest.raises(InvalidQuery, match="unknown field"):
        rows("pages", **by_author)


def test_a_list_of_all_types_hides_what_one_type_hides(news: Newsroom, settings: Any) -> None:
    assert "opera" in rows("pages", fields="slug")
    settings.WAGTAIL_LIVE_POLICY = f"{__name__}.Articles"
    assert "slug" not in rows("pages")
    for oracle in ({"slug": "opera"}, {"fields": "slug"}, {"order": "slug"}):
        with pytest.raises(InvalidQuery):
            rows("pages", **oracle)
    assert "arts" in rows("pages", type="newsroom.SectionPage", slug="arts")


@pytest.mark.parametrize("name", ["child_of", "descendant_of", "ancestor_of"])
def test_where_a_page_is_cannot_be_asked_when_its_parent_is_hidden(
    news: Newsroom, settings: Any, name: str
) -> None:
    asked_for = {"type": "newsroom.ArticlePage", name: str(news.town.pk)}
    rows("pages", **asked_for)
    settings.WAGTAIL_LIVE_POLICY = f"{__name__}.Articles"
    with pytest.raises(InvalidQuery) as hidden:
        rows("pages", **asked_for)
    with pytest.raises(InvalidQuery) as missing:
        rows("pages", type="newsroom.ArticlePage", nothing=str(news.town.pk))
    assert hidden.value.message == missing.value.message.replace("nothing", name)


def test_pages_that_a_collections_policy_hides_are_no_place_to_ask_about(
    news: Newsroom, settings: Any
) -> None:
    settings.WAGTAIL_LIVE_POLICY = {"collections": {"pages": f"{__name__}.Empty"}}
    with pytest.raises(InvalidQuery) as hidden:
        rows("pages", child_of=str(news.town.pk))
    with pytest.raises(InvalidQuery) as missing:
        rows("pages", child_of=str(Page.objects.order_by("pk").last().pk + 1))
    assert hidden.value.message == missing.value.message


def test_a_tickets_scope_holds_whatever_a_policy_says_of_the_asker(
    news: Newsroom, settings: Any
) -> None:
    settings.WAGTAIL_LIVE_POLICY = "tests.test_policies.Forgetful"
    asked = RequestFactory().get("/", headers={"host": "localhost"})
    asked.auth = Ticket(collections=["authors"])  # type: ignore[attr-defined]  # as identify sets it
    found = policies.audience(asked)
    assert (found.authenticated, found.collections) == (True, ("authors",))
