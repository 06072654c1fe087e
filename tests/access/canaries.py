"""
Words that occur once, in everything that somebody may not read; and random work on all of it.

Whether somebody may read an object is asked of Wagtail's own rules, object by object; what they
could read once they may have been told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain
from random import Random
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Model
from wagtail.documents import get_document_model
from wagtail.images import get_image_model
from wagtail.models import Collection, Page, PageViewRestriction

from example_project.newsroom.models import ArticlePage, Author, Category, Notice, SectionPage
from example_project.newsroom.seed import build
from tests.access.askers import Asker
from tests.access.newsroom_world import make

WORD = re.compile(r"canary-[0-9a-f]{12}")
ARTICLES_LIMIT = 12


class Aviary:
    """Writes canaries into the site, and knows who may have heard which."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.things = make()
        self.may_know: dict[str, set[str]] = {}
        self.everything: set[str] = set()
        #: Nobody may ever be told these, whatever they may read.
        self.secrets: set[str] = set()
        for rule in PageViewRestriction.objects.filter(restriction_type="password"):
            rule.password = self._secret()
            rule.save()
        for user in get_user_model().objects.all():
            user.email = f"{self._secret()}@example.com"
            user.last_name = self._secret()
            user.save()
        for objects in (*self.things.values(),):
            for thing in objects.values():
                self._write(thing)

    def canary(self) -> str:
        """Return a word that is nowhere else."""
        word = f"canary-{self.chance.getrandbits(48):012x}"
        self.everything.add(word)
        return word

    def note(self, askers: dict[str, Asker]) -> None:
        """Let everybody know what they may read now."""
        for name, asker in askers.items():
            known = self.may_know.setdefault(name, set())
            known.update(*(WORD.findall(_words(thing)) for thing in _readable(asker)))

    def leaks(self, name: str, text: str) -> set[str]:
        """Return the words in ``text`` that ``name`` could never read."""
        return set(WORD.findall(text)) - self.may_know.get(name, set())

    # What happens to the content

    def work(self) -> str:
        """Do one thing to some object; return what."""
        deeds: list[Callable[[], object]] = [
            *[self.edit] * 6,
            *[self.draft] * 3,
            *[self.refer] * 3,
            self.publish,
            self.unpublish,
            self.move,
            self.restrict,
            self.relax,
            self.file_away,
            self.create,
            self.delete,
            self.edit_author,
            self.regroup,
        ]
        deed = self.chance.choice(deeds)
        deed()
        return deed.__name__

    def edit(self) -> None:
        """Write new words into something, whether anybody may read them or not."""
        every = list(chain(*(objects.values() for objects in self.things.values())))
        thing = self.chance.choice([*every, *ArticlePage.objects.all()])
        self._write(thing)

    def draft(self) -> None:
        """Leave words in a draft."""
        page = self._article()
        page.title = page.lead = self.canary()
        page.save_revision()

    def publish(self) -> None:
        page = self._article()
        revision = page.latest_revision or page.save_revision()
        revision.publish()

    def unpublish(self) -> None:
        self._article().unpublish()

    def refer(self) -> None:
        """Let an article refer to what not everybody may read."""
        page = self._article()
        page.image = self.chance.choice(get_image_model().objects.all())
        page.author = self.chance.choice(Author.objects.all())
        target = self.chance.choice(Page.objects.filter(depth__gt=2))
        document = self.chance.choice(get_document_model().objects.all())
        page.body = [
            (
                "paragraph",
                f'<p><a linktype="page" id="{target.pk}">{target.pk}</a> '
                f'<a linktype="document" id="{document.pk}">it</a></p>',
            ),
            ("picture", {"image": page.image, "caption": ""}),
            ("author", page.author),
        ]
        page.save_revision().publish()

    def move(self) -> None:
        page, section = self._article(), self.chance.choice(SectionPage.objects.all())
        if not section.get_children().filter(slug=page.slug).exists():
            page.move(section, "last-child")

    def restrict(self) -> None:
        page = self.chance.choice(Page.objects.filter(depth__gt=2))
        kind = self.chance.choice(("login", "groups", "password"))
        with transaction.atomic():
            rule = PageViewRestriction.objects.create(
                page=page, restriction_type=kind, password=self._secret()
            )
            rule.groups.add(Group.objects.get(name=build.SUBSCRIBERS))

    def relax(self) -> None:
        rules = PageViewRestriction.objects.all()
        if rules.count() > 3:
            self.chance.choice(rules).delete()

    def file_away(self) -> None:
        """Move a picture or a document to another collection."""
        model = self.chance.choice((get_image_model(), get_document_model()))
        thing = self.chance.choice(model.objects.all())
        thing.collection = self.chance.choice(Collection.objects.all())
        thing.save()

    def create(self) -> None:
        section = self.chance.choice(SectionPage.objects.all())
        word = self.canary()
        if ArticlePage.objects.count() < ARTICLES_LIMIT:
            slug = f"article-{word.removeprefix('canary-')}"
            section.add_child(instance=ArticlePage(title=word, slug=slug, lead=word))

    def delete(self) -> None:
        fixed = {thing.pk for thing in self.things["pages"].values()}
        others = ArticlePage.objects.exclude(pk__in=fixed).filter(alias_of=None)
        if others:
            self.chance.choice(others).delete()

    def edit_author(self) -> None:
        author = self.chance.choice(Author.objects.all())
        author.bio = self.canary()
        revision = author.save_revision()
        self.chance.choice((revision.publish, author.unpublish, lambda: None))()

    def regroup(self) -> None:
        member = get_user_model().objects.get(username="member")
        group = Group.objects.get(name=build.SUBSCRIBERS)
        self.chance.choice((member.groups.add, member.groups.remove))(group)

    def _secret(self) -> str:
        word = self.canary()
        self.secrets.add(word)
        return word

    def _article(self) -> Any:
        return self.chance.choice(ArticlePage.objects.filter(alias_of=None))

    def _write(self, thing: Model) -> None:
        thing = type(thing)._base_manager.filter(pk=thing.pk).first()
        if thing is None:
            return
        if isinstance(thing, Page):
            thing = thing.specific
        for name in ("title", "lead", "intro", "name", "bio", "text", "description"):
            if hasattr(thing, name) and not isinstance(getattr(type(thing), name, None), property):
                setattr(thing, name, self.canary())
        thing.save()


def _readable(asker: Asker) -> Iterator[Model]:
    """Yield what Wagtail would let the asker read."""
    request = asker.request()

    def accepted(thing: Any) -> bool:
        return all(rule.accept_request(request) for rule in thing.get_view_restrictions())

    for page in Page.objects.filter(live=True).specific():
        if accepted(page):
            yield page
    for model in (get_image_model(), get_document_model()):
        yield from (one for one in model.objects.all() if accepted(one.collection))
    yield from Author.objects.filter(live=True)
    yield from Notice.objects.all()
    yield from Category.objects.all()


def _words(thing: Model) -> str:
    return " ".join(
        str(field.value_from_object(thing))
        for field in thing._meta.concrete_fields
        if not field.is_relation
    )
