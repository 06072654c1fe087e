"""The policy: Wagtail's rules are the ceiling, a site's policy only narrows, unknown means no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.test import RequestFactory
from wagtail.images import get_image_model
from wagtail.models import Collection, CollectionViewRestriction, Page, PageViewRestriction

from example_project.newsroom.models import ArticlePage, Author, SectionPage
from tests import newsroom
from tests.live import end, settled, sync
from tests.newsroom import Newsroom, publish
from wagtail_live.events import Audience
from wagtail_live.policy import Policy
from wagtail_live.testing import LiveClient

pytestmark = pytest.mark.usefixtures("committed")

PUBLIC = Audience()
MEMBER = Audience(authenticated=True)


@pytest.fixture
def news() -> Newsroom:
    return newsroom.build()


def request(**attributes: Any) -> HttpRequest:
    made = RequestFactory().get("/", headers={"host": "localhost"})
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def titles(audience: Audience) -> set[str]:
    found = Policy().visible(ArticlePage.objects.all(), audience)
    return set(found.values_list("title", flat=True))


def test_restrictions_and_their_groups_are_read_at_once(
    news: Newsroom, django_assert_num_queries: Any
) -> None:
    """Between two statements one could go, and would seem to be for no group at all."""
    restriction = PageViewRestriction.objects.create(
        page=news.tram, restriction_type=PageViewRestriction.GROUPS
    )
    restriction.groups.set([Group.objects.create(name="few"), Group.objects.create(name="more")])
    with django_assert_num_queries(1):
        assert Policy().restricted_pages(MEMBER) == {news.tram.pk}
    few = replace(MEMBER, groups=(restriction.groups.get(name="few").pk,))
    assert Policy().restricted_pages(few) == set()


class TestAudience:
    @pytest.mark.parametrize("user", [None, AnonymousUser()])
    def test_nobody_is_the_public(self, news: Newsroom, user: Any) -> None:
        assert Policy().audience(request(user=user)) == Audience(site=news.site.pk)

    def test_a_request_without_user_and_session_is_the_public(self, news: Newsroom) -> None:
        assert Policy().audience(request()) == Audience(site=news.site.pk)

    def test_an_inactive_superuser_is_the_public(self, news: Newsroom) -> None:
        user = newsroom.add_user("gone", is_superuser=True, is_active=False)
        assert Policy().audience(request(user=user)) == Audience(site=news.site.pk)

    def test_equal_rights_are_equal_audiences(self, news: Newsroom) -> None:
        group = Group.objects.create(name="Readers")
        users = [newsroom.add_user(name) for name in ("one", "two")]
        for user in users:
            user.groups.add(group)
        one, two = (Policy().audience(request(user=user)) for user in users)
        assert one == two
        assert one.groups == (group.pk,)

    def test_a_session_with_nonsense_opens_nothing(self, news: Newsroom) -> None:
        session = {"passed_page_view_restrictions": ["1", None, True, 7]}
        assert Policy().audience(request(session=session)).passed_pages == (7,)


class TestPages:
    def test_drafts_are_hidden_from_everybody(self, news: Newsroom) -> None:
        news.tram.unpublish()
        assert titles(replace(MEMBER, superuser=True)) == {"Bells", "Opera"}

    def test_a_login_hides_the_whole_section(self, news: Newsroom) -> None:
        PageViewRestriction.objects.create(page=news.town, restriction_type="login")
        assert titles(PUBLIC) == {"Opera"}
        assert titles(MEMBER) == {"Tram", "Bells", "Opera"}

    def test_groups_and_superusers(self, news: Newsroom) -> None:
        group = Group.objects.create(name="Readers")
        rule = PageViewRestriction.objects.create(page=news.tram, restriction_type="groups")
        rule.groups.add(group)
        assert "Tram" not in titles(MEMBER)
        assert "Tram" in titles(replace(MEMBER, groups=(group.pk,)))
        assert "Tram" in titles(replace(MEMBER, superuser=True))

    def test_a_password_counts_when_it_was_given_even_for_superusers(self, news: Newsroom) -> None:
        rule = PageViewRestriction.objects.create(page=news.tram, restriction_type="password")
        assert "Tram" not in titles(replace(MEMBER, superuser=True))
        assert "Tram" in titles(replace(PUBLIC, passed_pages=(rule.pk,)))

    def test_an_unknown_kind_of_restriction_hides(self, news: Newsroom) -> None:
        PageViewRestriction.objects.create(page=news.tram, restriction_type="moonphase")
        assert "Tram" not in titles(replace(MEMBER, superuser=True))

    def test_an_alias_of_an_alias_has_the_restrictions_of_its_source(self, news: Newsroom) -> None:
        arts = SectionPage.objects.get(pk=news.arts.pk)
        first = news.tram.create_alias(parent=arts, update_slug="tram-2")
        second = first.create_alias(parent=arts, update_slug="tram-3")
        PageViewRestriction.objects.create(page=news.tram, restriction_type="login")
        found = set(Policy().visible(Page.objects.all(), PUBLIC).values_list("pk", flat=True))
        assert not {news.tram.pk, first.pk, second.pk} & found

    def test_it_is_never_wider_than_wagtail_itself(self, news: Newsroom) -> None:
        PageViewRestriction.objects.create(page=news.town, restriction_type="login")
        seen = Policy().visible(Page.objects.filter(depth__gt=1), PUBLIC)
        for page in Page.objects.filter(depth__gt=1):
            asker = request(user=AnonymousUser(), session={})
            wagtail = page.live and all(
                rule.accept_request(asker) for rule in page.get_view_restrictions()
            )
            assert wagtail == seen.filter(pk=page.pk).exists(), page


class TestOthers:
    def test_snippets_with_drafts_show_live_rows_only(self, news: Newsroom) -> None:
        Author.objects.create(name="Draft", live=False)
        assert [one.name for one in Policy().visible(Author.objects.all(), PUBLIC)] == ["Inés"]

    def test_restricted_collections_hide_what_lies_below_them(self, news: Newsroom) -> None:
        private = Collection.objects.get(depth=1).add_child(name="Private")
        deeper = private.add_child(name="Deeper")
        image = newsroom.add_image()
        image.collection = deeper
        image.save()
        images = get_image_model().objects.all()
        assert Policy().visible(images, PUBLIC).exists()
        CollectionViewRestriction.objects.create(collection=private, restriction_type="login")
        assert not Policy().visible(images, PUBLIC).exists()
        assert Policy().visible(images, MEMBER).exists()


class Narrow(Policy):
    """Hides an article by its title, and two of its fields from the public."""

    def visible(self, queryset: QuerySet[Any], audience: Audience) -> QuerySet[Any]:
        found = super().visible(queryset, audience)
        return found.exclude(title="Opera") if issubclass(queryset.model, Page) else found

    def fields(self, model: type[Model], audience: Audience) -> frozenset[str] | None:
        if issubclass(model, ArticlePage) and not audience.authenticated:
            return frozenset({"id", "type", "detail_url", "title", "date", "related_links"})
        if model.__name__ == "RelatedLink":
            return frozenset({"id", "type", "title"})
        return None


class TestOwnPolicy:
    @pytest.fixture(autouse=True)
    async def own(self, settings: Any) -> AsyncIterator[None]:
        settings.WAGTAIL_LIVE_POLICY = f"{__name__}.Narrow"
        yield
        await end()

    async def test_rows_it_hides_are_never_told(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            init = await client.subscribe("pages", {"type": "newsroom.ArticlePage"})
            assert {row["title"] for row in init["data"]} == {"Tram", "Bells"}
            refused = await client.subscribe("pages", item=news.opera.pk)
            assert refused["error"]["code"] == "FORBIDDEN"
            await sync(lambda: publish(news.opera, lead="Unheard"))
            assert await settled(client) == []
            await sync(lambda: publish(news.tram, title="Opera"))
            [frame] = await settled(client)
            assert (frame["event"], frame["data"]) == ("delete", [news.tram.pk])

    async def test_a_hidden_field_is_neither_shown_nor_asked_for(self, news: Newsroom) -> None:
        def link() -> None:
            page = ArticlePage.objects.get(pk=news.tram.pk)
            page.related_links.create(title="Map", url="https://example.com/secret")

        await sync(link)
        every = {"type": "newsroom.ArticlePage", "fields": "*"}
        async with LiveClient() as client:
            init = await client.subscribe("pages", every)
            assert all("lead" not in row and "slug" not in row["meta"] for row in init["data"])
            assert "secret" not in str(init["data"])
            for query in (
                {"fields": "lead"},
                {"order": "lead"},
                {"lead": "x"},
                {"fields": "related_links(url)"},
            ):
                answer = await client.subscribe("pages", {"type": "newsroom.ArticlePage", **query})
                assert answer["error"]["code"] == "INVALID_QUERY", query
            detail = await client.subscribe("pages", item=news.tram.pk)
            assert "lead" not in detail["data"] and detail["data"]["title"] == "Tram"
