"""Every change that a reader can notice is heard once; nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models.signals import pre_save
from django.utils import timezone
from wagtail.models import (
    Collection,
    CollectionViewRestriction,
    Locale,
    Page,
    PageViewRestriction,
    Site,
)

from example_project.newsroom.models import ArticlePage, Author, Category, Notice, RelatedLink
from tests import newsroom
from tests.newsroom import Newsroom, publish
from wagtail_live import head, history, log, numbering, retention
from wagtail_live.events import Entry

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

Heard = Callable[..., list[tuple[str, str, str]]]


@pytest.fixture
def news() -> Newsroom:
    return newsroom.build()


@pytest.fixture
def entries() -> Callable[[Callable[[], object]], list[Entry]]:
    """Run something and return the numbered entries it left."""

    def run(action: Callable[[], object]) -> list[Entry]:
        before = head.position().number
        action()
        while numbering.number():
            pass
        return history.read(before)

    return run


@pytest.fixture
def heard(entries) -> Heard:
    """Run something and return what was heard: (kind, model, key)."""

    def run(action: Callable[[], object]) -> list[tuple[str, str, str]]:
        return [(entry.kind.value, entry.model, entry.object_id) for entry in entries(action)]

    return run


def article(page: Page) -> tuple[str, str, str]:
    return ("save", "newsroom.articlepage", str(page.pk))


class TestPages:
    def test_publishing_is_one_entry(self, news: Newsroom, heard: Heard) -> None:
        assert heard(lambda: publish(news.tram, title="Tram returns")) == [article(news.tram)]

    def test_publishing_with_children_and_relations_is_one_entry(
        self, news: Newsroom, heard: Heard
    ) -> None:
        def change() -> None:
            page = ArticlePage.objects.get(pk=news.tram.pk)
            page.related_links = [RelatedLink(title="Map", url="https://example.com")]
            page.categories = [Category.objects.create(name="Traffic", slug="traffic")]
            page.tags.add("tram")
            page.save_revision().publish()

        assert [one for one in heard(change) if one[1] == "newsroom.articlepage"] == [
            article(news.tram)
        ]

    def test_the_entry_knows_the_visibility_before(self, news: Newsroom, entries) -> None:
        [entry] = entries(lambda: publish(news.tram, title="Tram returns"))
        assert entry.was == {
            "live": True,
            "path": news.tram.path,
            "url_path": "/home/town/tram/",
            "locale": news.tram.locale_id,
        }

    def test_draft_saves_and_autosaves_are_not_heard(self, news: Newsroom, heard: Heard) -> None:
        def save() -> None:
            page = ArticlePage.objects.get(pk=news.tram.pk)
            page.title = "Unfinished"
            revision = page.save_revision()
            page.save_revision(overwrite_revision=revision)

        assert heard(save) == []

    def test_a_page_that_was_never_live_is_not_heard(self, news: Newsroom, heard: Heard) -> None:
        def create() -> None:
            news.town.refresh_from_db()
            page = news.town.add_child(
                instance=ArticlePage(title="Draft", slug="draft", lead="-", live=False)
            )
            page.related_links = [RelatedLink(title="Map", url="https://example.com")]
            page.title = "Draft again"
            page.save()
            page.save_revision()

        assert heard(create) == []

    def test_locking_is_not_heard(self, news: Newsroom, heard: Heard) -> None:
        def lock() -> None:
            page = ArticlePage.objects.get(pk=news.tram.pk)
            page.locked = True
            page.locked_at = timezone.now()
            page.save(update_fields=["locked", "locked_by", "locked_at"])

        assert heard(lock) == []

    def test_scheduling_is_not_heard_and_the_scheduled_publication_is(
        self, news: Newsroom, heard: Heard
    ) -> None:
        publish(news.tram)

        def schedule() -> None:
            page = ArticlePage.objects.get(pk=news.tram.pk)
            page.title = "Later"
            page.go_live_at = timezone.now() + timedelta(hours=1)
            page.save_revision().publish()

        assert heard(schedule) == []
        news.tram.revisions.update(approved_go_live_at=timezone.now() - timedelta(minutes=1))
        assert heard(lambda: call_command("publish_scheduled")) == [article(news.tram)]

    def test_scheduled_expiry_is_heard(self, news: Newsroom, heard: Heard) -> None:
        Page.objects.filter(pk=news.tram.pk).update(expire_at=timezone.now() - timedelta(hours=1))
        assert heard(lambda: call_command("publish_scheduled")) == [article(news.tram)]

    def test_unpublishing_is_one_entry(self, news: Newsroom, heard: Heard) -> None:
        assert heard(lambda: ArticlePage.objects.get(pk=news.tram.pk).unpublish()) == [
            article(news.tram)
        ]

    def test_creating_a_live_page_by_code_is_heard(self, news: Newsroom, heard: Heard) -> None:
        made = []
        found = heard(lambda: made.append(newsroom.add_article(news.town, "Ferry")))
        assert found == [article(made[0])]

    def test_moving_a_section_is_one_entry_with_both_places(self, news: Newsroom, entries) -> None:
        old_path = news.town.path
        other = news.root.add_child(instance=type(news.home)(title="Other", slug="other"))
        [entry] = entries(lambda: Page.objects.get(pk=news.town.pk).move(other, "last-child"))
        assert entry.object_id == str(news.town.pk)
        assert entry.was is not None
        assert (entry.was["path"], entry.was["url_path"]) == (old_path, "/home/town/")

    def test_reordering_is_one_entry(self, news: Newsroom, heard: Heard) -> None:
        def reorder() -> None:
            Page.objects.get(pk=news.bells.pk).move(Page.objects.get(pk=news.tram.pk), "left")

        assert len(heard(reorder)) == 1

    def test_a_changed_slug_is_one_entry(self, news: Newsroom, entries) -> None:
        [entry] = entries(lambda: publish(news.town, slug="city"))
        assert entry.was is not None
        assert entry.was["url_path"] == "/home/town/"

    def test_deleting_a_subtree_is_one_entry_with_every_page(self, news: Newsroom, entries) -> None:
        gone = {news.town.pk, news.tram.pk, news.bells.pk}
        [entry] = entries(lambda: Page.objects.get(pk=news.town.pk).delete())
        assert entry.kind == "delete"
        assert entry.was is not None
        assert {one["pk"] for one in entry.was["objects"]} == gone
        assert all(one["live"] and one["path"] for one in entry.was["objects"])

    def test_deleting_a_queryset_of_pages_is_one_entry(self, news: Newsroom, heard: Heard) -> None:
        assert len(heard(lambda: ArticlePage.objects.all().delete())) == 1

    def test_copying_live_pages_is_heard(self, news: Newsroom, heard: Heard) -> None:
        def copy() -> None:
            Page.objects.get(pk=news.town.pk).specific.copy(
                recursive=True, update_attrs={"slug": "town-2", "title": "Town 2"}
            )

        copies = {(kind, model) for kind, model, _ in heard(copy)}
        assert copies == {("save", "newsroom.sectionpage"), ("save", "newsroom.articlepage")}

    def test_an_alias_and_its_updates_are_heard(self, news: Newsroom, heard: Heard) -> None:
        made = []
        section = type(news.arts).objects.get(pk=news.arts.pk)
        created = heard(lambda: made.append(news.tram.create_alias(parent=section)))
        assert created == [article(made[0])]
        synced = heard(lambda: publish(news.tram, title="Tram, twice"))
        assert sorted(synced) == sorted([article(news.tram), article(made[0])])

    def test_deleting_the_source_of_an_alias_says_that_both_go(
        self, news: Newsroom, heard: Heard
    ) -> None:
        alias = news.tram.create_alias(parent=type(news.arts).objects.get(pk=news.arts.pk))
        found = heard(lambda: ArticlePage.objects.get(pk=news.tram.pk).delete())
        assert {(kind, key) for kind, _, key in found} >= {
            ("delete", str(news.tram.pk)),
            ("save", str(alias.pk)),
        }

    def test_a_child_object_saved_alone_is_its_page(self, news: Newsroom, heard: Heard) -> None:
        def save() -> None:
            RelatedLink.objects.create(page=news.tram, title="Map", url="https://example.com")

        assert heard(save) == [article(news.tram)]

    def test_a_child_object_deleted_alone_is_its_page(self, news: Newsroom, heard: Heard) -> None:
        link = RelatedLink.objects.create(page=news.tram, title="Map", url="https://example.com")
        assert heard(link.delete) == [article(news.tram)]


class TestTransactions:
    def test_a_rollback_leaves_nothing(self, news: Newsroom, heard: Heard) -> None:
        def fail() -> None:
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                publish(news.tram, title="Never")
                raise ZeroDivisionError

        assert heard(fail) == []

    def test_a_savepoint_that_rolls_back_leaves_nothing_and_what_follows_is_heard(
        self, news: Newsroom, heard: Heard
    ) -> None:
        def change() -> None:
            with transaction.atomic():
                with pytest.raises(ZeroDivisionError), transaction.atomic():
                    publish(news.tram, title="Never")
                    raise ZeroDivisionError
                publish(news.tram, title="Really")

        assert heard(change) == [article(news.tram)]

    def test_one_transaction_says_each_object_once(self, news: Newsroom, heard: Heard) -> None:
        def change() -> None:
            with transaction.atomic():
                publish(news.tram, title="One")
                publish(news.bells, title="Two")
                publish(news.tram, title="Three")

        assert heard(change) == [article(news.tram), article(news.bells)]

    def test_nothing_is_numbered_before_the_commit(self, news: Newsroom) -> None:
        before = head.position()
        with transaction.atomic():
            publish(news.tram, title="One")
            assert head.position() == before
        assert head.position().number == before.number + 1

    def test_a_publication_costs_one_insert_in_its_transaction(self, news: Newsroom) -> None:
        statements: list[tuple[bool, str]] = []

        def watch(execute, sql, parameters, many, context):
            # MariaDB is told around the transaction for how long it may stand still.
            if "wagtail_live" in sql and not sql.startswith("SET"):
                statements.append((connection.in_atomic_block, sql.split()[0]))
            return execute(sql, parameters, many, context)

        page = ArticlePage.objects.get(pk=news.tram.pk)
        revision = page.save_revision()
        with connection.execute_wrapper(watch):
            with transaction.atomic():
                revision.publish()
                inside = list(statements)
            after = statements[len(inside) :]
        assert [verb for _, verb in inside] == ["INSERT"]
        # One short transaction under the head's lock: read it, number what waits, move it on.
        assert all(atomic for atomic, _ in after)
        assert sum(verb == "UPDATE" and "entry" in verb for _, verb in after) <= 1
        assert len(after) <= 5

    def test_a_save_outside_a_transaction_is_announced_before_it(
        self, news: Newsroom, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notice = Notice.objects.create(text="Fog")
        before = head.position().number

        class PulledPlug(BaseException):
            pass

        def die(*args: object) -> None:
            raise PulledPlug

        # The process dies after the row is committed and before anything else happens.
        monkeypatch.setattr(log, "settle", die)
        notice.text = "Storm"
        with pytest.raises(PulledPlug):
            notice.save()
        assert numbering.number() == 0
        monkeypatch.setattr(numbering, "UNSETTLED_SECONDS", 0)
        assert numbering.number() == 1
        [entry] = history.read(before)
        assert (entry.model, entry.object_id) == ("newsroom.notice", str(notice.pk))

    @pytest.mark.parametrize("meanwhile", [0, 1], ids=["numbered", "numbered and pruned"])
    def test_a_save_that_ends_after_its_announcement_counts_is_heard_again(
        self, news: Newsroom, monkeypatch: pytest.MonkeyPatch, meanwhile: int
    ) -> None:
        notice = Notice.objects.create(text="Fog")

        def freeze(**kwargs: Any) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(numbering, "UNSETTLED_SECONDS", 0)
                assert numbering.number() == 1
            if meanwhile:
                retention.new_epoch()

        notice.text = "Storm"
        pre_save.connect(freeze, sender=Notice)
        try:
            before = head.position().number
            notice.save()
        finally:
            pre_save.disconnect(freeze, sender=Notice)
        entries = history.read(before + 1)
        assert [(one.kind, one.object_id) for one in entries] == [("save", str(notice.pk))]

    def test_what_a_failed_save_announced_is_settled_in_the_next_ones_transaction(
        self, news: Newsroom
    ) -> None:
        notice = Notice(text=None)
        with pytest.raises(IntegrityError):
            notice.save()
        notice.text = "Fog"
        before = head.position().number
        with transaction.atomic():
            notice.save()
            assert head.position().number == before
        [entry] = history.read(before)
        assert entry.object_id == str(notice.pk)


class TestSnippets:
    def test_a_plain_snippet_is_heard_when_it_is_saved_and_deleted(
        self, news: Newsroom, heard: Heard
    ) -> None:
        made = []
        assert heard(lambda: made.append(Notice.objects.create(text="Fog"))) == [
            ("save", "newsroom.notice", str(made[0].pk))
        ]
        key = str(made[0].pk)
        assert heard(made[0].save) == [("save", "newsroom.notice", key)]
        assert heard(made[0].delete) == [("delete", "newsroom.notice", key)]

    def test_a_draftable_snippet_is_heard_when_it_is_published(
        self, news: Newsroom, heard: Heard
    ) -> None:
        author = ("save", "newsroom.author", str(news.author.pk))

        def draft() -> None:
            news.author.name = "Inés C."
            news.author.save_revision()

        assert heard(draft) == []
        assert heard(lambda: news.author.latest_revision.publish()) == [author]
        assert heard(lambda: Author.objects.get(pk=news.author.pk).unpublish()) == [author]
        assert heard(lambda: Author.objects.get(pk=news.author.pk).save()) == []

    def test_a_deleted_snippet_names_the_pages_that_showed_it(
        self, news: Newsroom, entries
    ) -> None:
        found = entries(lambda: Author.objects.get(pk=news.author.pk).delete())
        [entry] = [one for one in found if one.kind == "delete"]
        assert entry.was is not None
        assert ["newsroom.articlepage", str(news.tram.pk)] in entry.was["used_by"]

    def test_a_relation_changed_from_the_other_side_is_the_pages(
        self, news: Newsroom, heard: Heard
    ) -> None:
        category = Category.objects.create(name="Traffic", slug="traffic")
        assert heard(lambda: category.articles.add(news.tram)) == [article(news.tram)]


class TestMedia:
    def test_images_are_heard_and_their_renditions_are_not(
        self, news: Newsroom, heard: Heard
    ) -> None:
        made = []
        assert heard(lambda: made.append(newsroom.add_image())) == [
            ("save", "wagtailimages.image", str(made[0].pk))
        ]
        assert heard(lambda: made[0].get_rendition("fill-100x100")) == []
        assert [one[0] for one in heard(made[0].delete)] == ["delete"]


class TestAccess:
    def test_a_page_restriction_and_its_groups_are_heard_with_what_was(
        self, news: Newsroom, entries
    ) -> None:
        group = Group.objects.create(name="Readers")
        page = ("access", "wagtailcore.page", str(news.town.pk))

        def said(found: list[Entry]) -> list[tuple[str, str, str]]:
            return [(one.kind.value, one.model, one.object_id) for one in found]

        made = []
        created = entries(
            lambda: made.append(
                PageViewRestriction.objects.create(page=news.town, restriction_type="groups")
            )
        )
        assert said(created) == [page]
        assert created[0].was == {"pk": None, "type": "none", "groups": []}
        grouped = entries(lambda: made[0].groups.set([group]))
        assert said(grouped) == [page]
        assert grouped[0].was == {"pk": made[0].pk, "type": "groups", "groups": []}
        key = made[0].pk
        removed = entries(made[0].delete)
        assert removed[0].was == {"pk": key, "type": "groups", "groups": [group.pk]}

    def test_a_restriction_that_goes_with_its_page_says_nothing_new(
        self, news: Newsroom, heard: Heard
    ) -> None:
        PageViewRestriction.objects.create(page=news.town, restriction_type="login")
        assert [kind for kind, _, _ in heard(Page.objects.get(pk=news.town.pk).delete)] == [
            "delete"
        ]

    def test_collections_and_their_restrictions_are_heard(
        self, news: Newsroom, heard: Heard
    ) -> None:
        root = Collection.objects.get(depth=1)
        made = []
        assert {
            kind for kind, _, _ in heard(lambda: made.append(root.add_child(name="Internal")))
        } == {"access"}
        assert heard(
            lambda: CollectionViewRestriction.objects.create(
                collection=made[0], restriction_type="login"
            )
        ) == [("access", "wagtailcore.collection", str(made[0].pk))]

    def test_sites_and_locales_are_heard(self, news: Newsroom, heard: Heard) -> None:
        site = Site.objects.get()
        assert heard(site.save) == [("site", "wagtailcore.site", str(site.pk))]
        made = []
        [(kind, model, _)] = heard(lambda: made.append(Locale.objects.create(language_code="de")))
        assert (kind, model) == ("site", "wagtailcore.locale")
        assert [kind for kind, _, _ in heard(made[0].delete)] == ["site"]


class TestNoise:
    def test_log_entries_sessions_and_comments_are_not_heard(
        self, news: Newsroom, heard: Heard
    ) -> None:
        from wagtail.admin.models import EditingSession  # noqa: PLC0415  # needs the app registry

        user = newsroom.add_user("editor")

        def noise() -> None:
            page = ArticlePage.objects.get(pk=news.tram.pk)
            EditingSession.objects.create(
                user=user, content_object=page, last_seen_at=timezone.now()
            )
            page.wagtail_admin_comments.create(
                user=user, text="Nice", contentpath="title", page=page
            )

        assert heard(noise) == []

    def test_a_dead_channel_layer_does_not_break_publishing(
        self, news: Newsroom, heard: Heard, settings
    ) -> None:
        settings.CHANNEL_LAYERS = {
            "default": {
                "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
                "CONFIG": {"hosts": ["redis://127.0.0.1:1"]},
            }
        }
        assert heard(lambda: publish(news.tram, title="Anyway")) == [article(news.tram)]
