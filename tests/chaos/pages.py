"""A worker of the writer that owns two sections: what editors do to pages, and what goes wrong."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone
from wagtail.models import Page, PageViewRestriction, Revision

from example_project.newsroom.models import ArticlePage, SectionPage
from tests.chaos.recorder import Effect, Recorder, Undone, disconnect

MOST_ARTICLES = 9
FEWEST_ARTICLES = 3
#: How far ahead a publication is planned.
AHEAD_SECONDS = 2.0
LONG_SECONDS = {"sqlite": 0.5, "postgresql": 2.5, "mysql": 2.5}
#: Who passes it: login and groups the member, password nobody here.
RESTRICTIONS = ("login", "groups", "password")


class Pages:
    """
    Edits, drafts, publishes, moves, restricts and deletes the articles of two sections.

    It alone writes to them, so the versions of an object are in the order of its commits.
    """

    def __init__(self, recorder: Recorder, slugs: tuple[str, str], chance: random.Random) -> None:
        self.recorder = recorder
        self.slugs = slugs
        self.chance = chance
        self.drafts: dict[int, tuple[int, int]] = {}  # page -> revision, version
        self.busy: set[int] = set()
        self.helpers: list[threading.Thread] = []
        self.hidden = slugs[0].startswith("hidden")

    def step(self) -> None:
        """Do one operation."""
        actions: list[tuple[int, Callable[[], None]]] = [
            (30, self.edit),
            (6, self.save),
            (5, self.draft),
            (5, self.publish_draft),
            (5, self.unpublish),
            (6, self.create),
            (5, self.delete),
            (6, self.move),
            (6, self.restrict),
            (8, self.unrestrict),
            (6, self.edit_hidden),
            (3, self.rename_section),
            (5, self.roll_back),
            (4, self.roll_back_to_savepoint),
            (3, self.hold),
            (2, self.bulk),
        ]
        weights = [weight for weight, _ in actions]
        self.chance.choices([action for _, action in actions], weights)[0]()

    def finish(self) -> None:
        """Wait for what still holds a transaction open, then touch every object once more."""
        for helper in self.helpers:
            helper.join(30)
        self.busy.clear()
        for page in self.articles():
            if page.live:
                self._edit(page, "barrier")
        for section in self.sections():
            self._rename(section)

    # What there is

    def sections(self) -> list[SectionPage]:
        found = SectionPage.objects.filter(slug__in=self.slugs).order_by("slug")
        return list(found)

    def articles(self, **filters: Any) -> list[ArticlePage]:
        paths = [section.path for section in self.sections()]
        found = ArticlePage.objects.filter(**filters).order_by("pk")
        return [
            page
            for page in found
            if page.pk not in self.busy and any(page.path.startswith(path) for path in paths)
        ]

    def _any(self, pages: list[Any]) -> Any:
        return self.chance.choice(pages) if pages else None

    # What is done

    def edit(self) -> None:
        page = self._any(self.articles(live=True))
        if page is not None:
            self._edit(page, "edit", atomic=self.chance.random() < 0.6)

    def save(self) -> None:
        page = self._any(self.articles(live=True))
        if page is None:
            return
        effect = self._stamp(page)
        atomic = self.chance.random() < 0.5
        self.recorder.perform("save", [effect], page.save, atomic=atomic)

    def draft(self) -> None:
        page = self._any(self.articles())
        if page is None:
            return
        version = self.recorder.version()
        page.title = f"v{version} draft"

        def act() -> None:
            self.drafts[page.pk] = page.save_revision().pk, version

        self.recorder.perform("draft", [{"object": key(page), "draft": version}], act)

    def publish_draft(self) -> None:
        drafts = [page for page in self.articles() if page.pk in self.drafts]
        page = self._any(drafts)
        if page is None:
            return
        revision, version = self.drafts.pop(page.pk)
        if page.latest_revision_id != revision:
            return
        effect = {"object": key(page), "version": version, "live": True}
        self.recorder.perform("publish", [effect], lambda: page.latest_revision.publish())

    def unpublish(self) -> None:
        pages = self.articles(live=True)
        page = self._any(pages)
        if page is not None and len(pages) > FEWEST_ARTICLES:
            effect = {"object": key(page), "live": False}
            self.recorder.perform("unpublish", [effect], page.unpublish)

    def create(self) -> None:
        section = self._any(self.sections())
        if section is None or len(self.articles()) >= 2 * MOST_ARTICLES:
            return
        version = self.recorder.version()
        live = self.chance.random() < 0.8
        page = ArticlePage(title=f"v{version} new", slug=f"new-{version}", lead="-", live=live)
        effect: Effect = {
            "object": "?",
            "kind": "article",
            "parent": key(section),
            "live": live,
            **({"version": version} if live else {"draft": version, "version": 0}),
        }

        def act() -> None:
            SectionPage.objects.get(pk=section.pk).add_child(instance=page)
            effect["object"] = key(page)

        self.recorder.perform("create", [effect], act)

    def delete(self) -> None:
        pages = self.articles()
        page = self._any(pages[2 * FEWEST_ARTICLES :])
        if page is not None:
            effect = {"object": key(page), "gone": True}
            self.recorder.perform("delete", [effect], page.delete)

    def move(self) -> None:
        page = self._any(self.articles())
        if page is None:
            return
        here = page.get_parent()
        there = next(section for section in self.sections() if section.pk != here.pk)
        effect = {"object": key(page), "parent": key(there)}
        self.recorder.perform("move", [effect], lambda: page.move(there, pos="last-child"))

    def restrict(self) -> None:
        # Of the two sections only the first is ever restricted: the other's children can
        # always be asked for.
        pages = [*self.articles(), self.sections()[0]]
        page = self._any([page for page in pages if not restrictions(page)])
        if page is None or self.hidden:
            return
        kind = self.chance.choice(RESTRICTIONS)

        def act() -> None:
            made = PageViewRestriction.objects.create(
                page=Page.objects.get(pk=page.pk), restriction_type=kind, password="-"
            )
            if kind == "groups":
                made.groups.set(Group.objects.filter(name="Subscribers"))

        self.recorder.perform("restrict", [{"object": key(page), "restricted": kind}], act)

    def unrestrict(self) -> None:
        pages = [*self.articles(), *self.sections()]
        page = self._any([page for page in pages if restrictions(page)])
        if page is None or self.hidden:
            return
        effect = {"object": key(page), "restricted": None}

        def act() -> None:
            for found in restrictions(page):
                found.delete()

        self.recorder.perform("unrestrict", [effect], act)

    def edit_hidden(self) -> None:
        """Edit what some may not read: these versions must never be told to them."""
        hidden = [page for page in self.articles(live=True) if page.get_view_restrictions()]
        if hidden:
            self._edit(self._any(hidden), "edit hidden")

    def rename_section(self) -> None:
        section = self._any(self.sections())
        if section is not None:
            self._rename(section)

    def roll_back(self) -> None:
        page = self._any(self.articles(live=True))
        if page is None:
            return
        effect = self._stamp(page)

        def act() -> None:
            page.save_revision().publish()
            raise Undone

        self.recorder.perform("roll back", [effect], act)

    def roll_back_to_savepoint(self) -> None:
        pages = self.articles(live=True)
        if len(pages) < 2:
            return
        one, other = self.chance.sample(pages, 2)
        effect, undone = self._stamp(one), self._stamp(other)

        def act() -> None:
            one.save_revision().publish()
            try:
                with transaction.atomic():
                    other.save_revision().publish()
                    raise Undone
            except Undone:
                pass

        effects = [effect, {"object": undone["object"], "draft": undone["version"]}]
        self.recorder.perform("savepoint", effects, act)

    def hold(self) -> None:
        """Keep a transaction open while others commit: its entry is older than theirs."""
        page = self._any(self.articles(live=True))
        if page is None or any(helper.is_alive() for helper in self.helpers):
            return
        self.busy.add(page.pk)
        seconds = LONG_SECONDS[connection.vendor]

        def act() -> None:
            page.save()
            time.sleep(seconds)

        def run() -> None:
            try:
                effect = self._stamp(page)
                self.recorder.perform("hold", [effect], act)
            finally:
                self.busy.discard(page.pk)
                disconnect()

        helper = threading.Thread(target=run, daemon=True)
        self.helpers = [helper]
        helper.start()

    def bulk(self) -> None:
        """More in one transaction than a change may carry."""
        pages = self.articles(live=True)
        effects = [self._stamp(page) for page in pages]

        def act() -> None:
            for page in pages:
                page.save()

        self.recorder.perform("bulk", effects, act)

    def _edit(self, page: ArticlePage, operation: str, *, atomic: bool = True) -> None:
        effect = self._stamp(page)
        self.recorder.perform(
            operation, [effect], lambda: page.save_revision().publish(), atomic=atomic
        )

    def _rename(self, section: SectionPage) -> None:
        effect = self._stamp(section)
        self.recorder.perform("rename section", [effect], lambda: section.save_revision().publish())

    def _stamp(self, page: Page) -> Effect:
        self.drafts.pop(page.pk, None)  # published later, it would take the version back
        version = self.recorder.version()
        page.title = f"v{version} {page.slug}"
        page.draft_title = page.title
        return {"object": key(page), "version": version, "live": True}


class Scheduled(Pages):
    """Plans publications and lets `publish_scheduled` make them, as cron does elsewhere."""

    def __init__(self, recorder: Recorder, chance: random.Random) -> None:
        super().__init__(recorder, ("scheduled", "scheduled"), chance)

    def step(self) -> None:
        # ruff: noqa: PLC0415 - management needs the apps
        from django.core.management import call_command

        page = self._any(self.articles())
        if page is None:
            return
        version = self.recorder.version()
        page.title = f"v{version} planned"
        page.go_live_at = timezone.now() + timedelta(seconds=AHEAD_SECONDS)

        def plan() -> None:
            page.save_revision().publish()
            if not page.scheduled_revision:
                raise Undone  # it took so long that its time had come

        effect: Effect = {"object": key(page), "draft": version}
        effects = [effect]
        if page.live_revision_id is None:  # Wagtail takes such a page offline until then
            effects.append({"object": key(page), "live": False})
        if not self.recorder.perform("plan", effects, plan):
            return
        while timezone.now() <= page.go_live_at:
            time.sleep(0.05)
        # What was planned earlier may still wait: the database went away, a backup came back.
        self.recorder.perform(
            "publish scheduled",
            due(),
            lambda: call_command("publish_scheduled", verbosity=0),
            atomic=False,
        )


def due() -> list[Effect]:
    """Return what `publish_scheduled` would make of the pages whose time has come."""
    planned = Revision.page_revisions.filter(approved_go_live_at__lt=timezone.now())
    return [
        {
            "object": f"pages:{revision.object_id}",
            "version": int(revision.content["title"].split()[0].removeprefix("v")),
            "live": True,
        }
        for revision in planned
    ]


def key(page: Page) -> str:
    return f"pages:{page.pk}"


def restrictions(page: Page) -> list[PageViewRestriction]:
    return list(PageViewRestriction.objects.filter(page_id=page.pk))
