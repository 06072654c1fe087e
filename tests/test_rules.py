"""The rules of Settings > Live access: whom they fit, what they grant, and when an edit counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.cache import cache
from wagtail.models import GroupPagePermission, Locale, Page, Site

from example_project.newsroom.models import ArticlePage, Author
from tests import newsroom
from tests.live import end, settled, sync
from tests.newsroom import Newsroom, publish
from wagtail_live import rules
from wagtail_live.events import Audience, Query
from wagtail_live.exceptions import Forbidden, InvalidQuery
from wagtail_live.models import AccessRule
from wagtail_live.policy import Policy
from wagtail_live.representation import Representation
from wagtail_live.rules import Rule, fitting
from wagtail_live.testing import LiveClient

ARTICLES = {"type": "newsroom.ArticlePage"}
EVERYBODY = Rule("pages", "everybody")
READERS = Rule("pages", "group", group=7)
ROBOT = Rule("pages", "token", token=3)
READER = Audience(authenticated=True, groups=(7,))


@pytest.fixture
def news(committed: None) -> Newsroom:
    cache.clear()
    return newsroom.build()


def here(news: Newsroom, **fields: Any) -> Audience:
    return Audience(site=news.site.pk, **fields)


def titles(audience: Audience) -> set[str]:
    found = Policy("pages").visible(ArticlePage.objects.all(), audience)
    return set(found.values_list("title", flat=True))


def rule(collection: str = "pages", **fields: Any) -> AccessRule:
    return AccessRule.objects.create(collection=collection, **fields)


class TestWhom:
    def test_without_a_rule_for_the_collection_none_narrows(self) -> None:
        assert fitting([], "pages", Audience()) is None
        assert fitting([Rule("images", "everybody")], "pages", Audience()) is None

    def test_who_fits_none_gets_nothing(self) -> None:
        assert fitting([READERS, ROBOT], "pages", Audience()) == []
        assert fitting([READERS], "pages", replace(READER, groups=(8,))) == []

    def test_the_most_specific_count_alone(self) -> None:
        every = [EVERYBODY, READERS, ROBOT]
        assert fitting(every, "pages", Audience()) == [EVERYBODY]
        assert fitting(every, "pages", READER) == [READERS]
        assert fitting(every, "pages", replace(READER, token=3)) == [ROBOT]
        assert fitting(every, "pages", replace(READER, token=4)) == [READERS]

    def test_several_of_one_kind_count_together(self) -> None:
        other = replace(READERS, group=8)
        found = fitting([READERS, EVERYBODY, other], "pages", replace(READER, groups=(7, 8)))
        assert found == [READERS, other]

    def test_a_superuser_is_not_narrowed_and_its_token_is(self) -> None:
        root = Audience(authenticated=True, superuser=True)
        assert fitting([READERS], "pages", root) is None
        assert fitting([READERS], "pages", replace(root, token=3)) == []

    def test_a_group_or_a_token_that_has_gone_is_nobody(self) -> None:
        gone = [replace(READERS, group=None), replace(ROBOT, token=None)]
        assert fitting(gone, "pages", READER) == []

    def test_a_kind_of_asker_that_is_not_known_is_nobody(self) -> None:
        assert fitting([Rule("pages", "friends")], "pages", READER) == []

    def test_a_closed_collection_needs_a_rule(self, settings: Any) -> None:
        settings.WAGTAIL_LIVE_CLOSED_COLLECTIONS = ["pages"]
        assert fitting([], "pages", Audience(authenticated=True, superuser=True)) == []
        assert fitting([EVERYBODY], "pages", Audience()) == [EVERYBODY]
        assert fitting([], "images", Audience()) is None


class TestWhat:
    def test_events_add_up(self) -> None:
        one, other = (replace(EVERYBODY, events=frozenset({name})) for name in ("create", "update"))
        assert rules.events([one, other]) == {"create", "update"}
        assert rules.events([one, EVERYBODY]) is None
        assert rules.events([]) is None

    def test_fields_do_not(self) -> None:
        one = replace(EVERYBODY, fields=frozenset({"title", "lead"}))
        other = replace(EVERYBODY, fields=frozenset({"title", "date"}))
        assert rules.fields([one, other, EVERYBODY]) == {"id", "type", "detail_url", "title"}
        assert rules.fields([EVERYBODY]) is None

    def test_rows_add_up(self, news: Newsroom) -> None:
        rule(page=news.town)
        assert titles(here(news)) == {"Tram", "Bells"}
        rule(page=news.opera)
        assert titles(here(news)) == {"Tram", "Bells", "Opera"}

    def test_a_rule_without_a_limit_is_for_all(self, news: Newsroom) -> None:
        rule(page=news.town)
        rule()
        assert titles(here(news)) == {"Tram", "Bells", "Opera"}

    def test_a_rule_that_is_not_active_is_not_there(self, news: Newsroom) -> None:
        rule(page=news.town, active=False)
        assert titles(here(news)) == {"Tram", "Bells", "Opera"}

    def test_a_site_is_its_pages_or_its_address(self, news: Newsroom) -> None:
        site = Site.objects.create(hostname="town.test", root_page=news.town)
        rule(site=site)
        rule("authors", site=site)
        assert titles(here(news)) == {"Tram", "Bells"}
        authors = Author.objects.all()
        assert not Policy("authors").visible(authors, here(news)).exists()
        assert Policy("authors").visible(authors, Audience(site=site.pk)).exists()

    def test_a_locale(self, news: Newsroom) -> None:
        french = Locale.objects.create(language_code="fr")
        Page.objects.filter(pk=news.opera.pk).update(locale=french)
        rule(locale=french)
        rule("authors", locale=french)
        assert titles(here(news)) == {"Opera"}
        assert not Policy("authors").visible(Author.objects.all(), here(news)).exists()

    @pytest.mark.parametrize("kind", ["page", "site", "locale"])
    def test_a_limit_that_has_gone_grants_nothing(self, news: Newsroom, kind: str) -> None:
        made: Any = {
            "page": lambda: news.town,
            "site": lambda: Site.objects.create(hostname="town.test", root_page=news.town),
            "locale": lambda: Locale.objects.create(language_code="fr"),
        }[kind]()
        made_rule = rule(**{kind: made})
        type(made).objects.get(pk=made.pk).delete()
        made_rule.refresh_from_db()
        assert getattr(made_rule, kind) is None
        assert titles(here(news)) == set()

    def test_wagtails_own_rules_stay_the_ceiling(self, news: Newsroom) -> None:
        rule(page=news.town, drafts=True, writing=True)
        news.tram.unpublish()
        assert titles(here(news)) == {"Bells"}

    def test_fields_cannot_be_asked_about(self, news: Newsroom) -> None:
        rule(field_names=["title"])
        rule("authors", field_names=["role"])
        query = Query("pages", (("fields", "*"), ("type", "newsroom.ArticlePage")))
        rows = str(Representation(query, here(news)).snapshot().rows)
        assert "Tram" in rows
        assert "in short" not in rows
        for name, value in (("order", "lead"), ("lead", "x"), ("fields", "lead")):
            asked = Query("pages", tuple(sorted({**ARTICLES, name: value}.items())))
            with pytest.raises(InvalidQuery):
                Representation(asked, here(news)).snapshot()

    def test_what_is_nested_has_the_fields_of_its_own_collection(self, news: Newsroom) -> None:
        rule("authors", field_names=["role"])
        query = Query("pages", (("fields", "author(*)"), ("type", "newsroom.ArticlePage")))
        rows = str(Representation(query, here(news)).snapshot().rows)
        assert "role" in rows
        assert "Inés" not in rows

    def test_what_is_nested_has_the_rows_of_its_own_collection(self, news: Newsroom) -> None:
        rule(page=news.town)
        query = Query("pages", (("fields", "author(name)"), ("type", "newsroom.ArticlePage")))
        assert "Inés" in str(Representation(query, here(news)).snapshot().rows)
        rule("authors", who="group", group=Group.objects.create(name="Readers"))
        plain = Query("pages", (("fields", "author"), ("type", "newsroom.ArticlePage")))
        assert '"author":null' in str(Representation(plain, here(news)).snapshot().rows)

    def test_whom_no_rule_fits_is_refused(self, news: Newsroom) -> None:
        rule(who="group", group=Group.objects.create(name="Readers"))
        for item in (None, news.tram.pk):
            with pytest.raises(Forbidden):
                Representation(Query("pages", item=item), here(news)).snapshot()

    def test_what_was_there_is_judged_by_the_same_rules(self, news: Newsroom) -> None:
        town, tram = Page.objects.get(pk=news.town.pk), Page.objects.get(pk=news.tram.pk)
        rule(page=town)
        was = {"live": True, "path": tram.path, "locale": tram.locale_id}
        policy = Policy("pages")
        assert policy.was_visible(Page, was, here(news))
        assert not policy.was_visible(Page, {**was, "path": news.opera.path}, here(news))
        AccessRule.objects.update(locale=Locale.objects.create(language_code="fr"))
        assert not Policy("pages").was_visible(Page, was, here(news))


class TestWriting:
    @pytest.fixture
    def editor(self, news: Newsroom) -> Any:
        group = Group.objects.create(name="Town desk")
        for name in ("change_page", "publish_page"):
            permission = Permission.objects.get(
                codename=name, content_type__app_label="wagtailcore"
            )
            GroupPagePermission.objects.create(group=group, page=news.town, permission=permission)
        user = newsroom.add_user("editor")
        user.groups.add(group)
        return user

    def asked(self, news: Newsroom, user: Any) -> Audience:
        return here(news, authenticated=True, groups=(user.groups.get().pk,))

    @pytest.mark.parametrize("action", ["draft", "change", "publish"])
    def test_without_rules_wagtail_alone_says(
        self, news: Newsroom, editor: Any, action: str
    ) -> None:
        asker = self.asked(news, editor)
        assert Policy("pages").can(action, news.tram, asker, editor)
        assert not Policy("pages").can(action, news.opera, asker, editor)
        assert not Policy("pages").can(action, news.tram, asker)

    def test_rules_only_narrow_that(self, news: Newsroom, editor: Any) -> None:
        asker = self.asked(news, editor)
        reading = rule()
        for action in ("draft", "change", "delete"):
            assert not Policy("pages").can(action, news.tram, asker, editor)
        AccessRule.objects.filter(pk=reading.pk).update(drafts=True)
        assert Policy("pages").can("draft", news.tram, asker, editor)
        assert not Policy("pages").can("change", news.tram, asker, editor)
        rule(writing=True, page=news.tram)
        assert Policy("pages").can("change", news.tram, asker, editor)
        assert not Policy("pages").can("change", news.bells, asker, editor)
        rule(writing=True)
        assert not Policy("pages").can("change", news.opera, asker, editor)

    def test_to_view_is_to_see_it_live(self, news: Newsroom) -> None:
        assert Policy("pages").can("view", news.tram, here(news))
        rule(page=news.arts)
        assert not Policy("pages").can("view", news.tram, here(news))
        assert Policy("pages").can("view", ArticlePage, here(news))
        news.opera.unpublish()
        assert not Policy("pages").can("view", news.opera, here(news))

    def test_an_action_that_nobody_knows_is_nobodys(self, news: Newsroom) -> None:
        root = newsroom.add_user("root", is_superuser=True)
        asker = here(news, authenticated=True, superuser=True)
        assert Policy("pages").can("delete", news.tram, asker, root)
        assert not Policy("pages").can("transmogrify", news.tram, asker, root)

    def test_an_inactive_user_may_nothing(self, news: Newsroom) -> None:
        gone = newsroom.add_user("gone", is_superuser=True, is_active=False)
        assert not Policy("authors").can("change", news.author, here(news), gone)

    def test_a_snippet_has_its_models_permissions(self, news: Newsroom) -> None:
        user = newsroom.add_user("writer")
        user.user_permissions.add(Permission.objects.get(codename="change_author"))
        asker = here(news, authenticated=True)
        assert Policy("authors").can("change", news.author, asker, user)
        assert not Policy("authors").can("delete", news.author, asker, user)
        assert Policy("authors").can("change", Author, asker, user)


class TestMemory:
    def test_rules_are_read_once_until_they_are_forgotten(
        self, news: Newsroom, django_assert_num_queries: Any
    ) -> None:
        rules.forget()
        assert rules.remembered() == ()
        rule()
        with django_assert_num_queries(0):
            assert rules.remembered() == ()
        rules.forget()
        assert rules.remembered() == (EVERYBODY,)
        rules.forget()

    def test_what_was_read_before_they_were_forgotten_is_not_kept(
        self, news: Newsroom, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rules.forget()

        def slow() -> tuple[Rule, ...]:
            rules.forget()
            return (EVERYBODY,)

        with monkeypatch.context() as patched:
            patched.setattr(rules, "read", slow)
            assert rules.remembered() == (EVERYBODY,)
        assert rules.remembered() == ()


class TestFollowing:
    @pytest.fixture(autouse=True)
    async def ended(self) -> AsyncIterator[None]:
        yield
        await end()

    async def test_an_edit_counts_at_once_for_who_follows(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            init = await client.subscribe("pages", ARTICLES)
            assert len(init["data"]) == 3
            await sync(lambda: rule(page=news.arts))
            frames = await settled(client)
            assert [row["title"] for row in frames[-1]["data"]] == ["Opera"]
            await sync(lambda: publish(news.tram, lead="Unheard"))
            assert await settled(client) == []
            await sync(lambda: AccessRule.objects.get().delete())
            frames = await settled(client)
            assert len(frames[-1]["data"]) == 3

    async def test_a_collection_may_be_taken_away_and_given_back(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)
            group = await sync(lambda: Group.objects.create(name="Readers"))
            made = await sync(lambda: rule(who="group", group=group))
            await settled(client)
            await sync(lambda: publish(news.tram, lead="Unheard"))
            assert await settled(client) == []
            refused = await client.subscribe("pages", ARTICLES)
            assert refused["error"]["code"] == "FORBIDDEN"
            made.active = False
            await sync(made.save)
            await settled(client)
            assert len((await client.subscribe("pages", ARTICLES))["data"]) == 3

    async def test_only_the_events_that_are_ticked_are_told(self, news: Newsroom) -> None:
        await sync(lambda: rule(events=["create"]))
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES)
            await sync(lambda: publish(news.tram, lead="Unheard"))
            assert await settled(client) == []
            await sync(lambda: newsroom.add_article(news.arts, "Ballet"))
            [frame] = await settled(client)
            assert frame["event"] == "create"

    async def test_a_client_that_comes_back_is_told_by_the_rules_of_now(
        self, news: Newsroom
    ) -> None:
        await sync(lambda: rule(page=news.town, events=["delete"]))
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]
        await sync(lambda: publish(news.opera, lead="Hidden"))
        await sync(lambda: publish(news.bells, lead="An update, and those are not told"))
        await sync(lambda: ArticlePage.objects.get(pk=news.tram.pk).delete())
        async with LiveClient() as client:
            resumed = await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert resumed["event"] == "resume"
            told = [(frame["event"], frame["data"]) for frame in await settled(client)]
            # Perhaps twice: what comes back and what is told now may overlap.
            assert told
            assert all(one == ("delete", [news.tram.pk]) for one in told)

    @pytest.mark.parametrize("how", ["moved", "deleted"])
    async def test_who_comes_back_when_a_rules_place_is_another_starts_afresh(
        self, news: Newsroom, how: str
    ) -> None:
        await sync(lambda: rule(page=news.town))
        async with LiveClient() as client:
            cursor = (await client.subscribe("pages", ARTICLES))["cursor"]

        def change() -> None:
            town = Page.objects.get(pk=news.town.pk)
            if how == "deleted":
                town.delete()
            else:
                town.move(Page.objects.get(pk=news.arts.pk), pos="last-child")

        await sync(change)
        async with LiveClient() as client:
            again = await client.subscribe("pages", ARTICLES, cursor=cursor)
            assert (again["event"], again["reset"]) == ("init", "access_changed")
