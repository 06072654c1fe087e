"""Builds the demo: two sites, two languages, some forty articles, and who may read them."""

import json
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission
from django.core.files.base import ContentFile
from django.core.files.images import ImageFile
from django.db import transaction
from django.utils import timezone
from django.utils.html import escape
from django.utils.text import slugify
from wagtail.documents import get_document_model
from wagtail.images import get_image_model
from wagtail.models import (
    Collection,
    CollectionViewRestriction,
    Locale,
    Page,
    PageViewRestriction,
    Site,
)

from example_project.newsroom.models import (
    ArticlePage,
    Author,
    Category,
    HomePage,
    Notice,
    RelatedLink,
    SectionPage,
)
from example_project.newsroom.seed import pictures, text

PASSWORD = "newsroom-demo"  # noqa: S105 - printed by the demo
PAGE_PASSWORD = "silver-herring"  # noqa: S105 - printed by the demo
USERS = {
    "admin": "may do everything",
    "editor": "writes drafts and submits them",
    "moderator": "publishes",
    "member": "reads the members' and subscribers' pages",
}
SUBSCRIBERS = "Subscribers"
COURIER_HOST, GAZETTE_HOST = "localhost", "gazette.localhost"

Say = Callable[[str], None]
Row = dict[str, Any]


def is_seeded() -> bool:
    return HomePage.objects.exists()


def follow_port() -> None:
    """Let the sites' addresses name the port of this run."""
    hosts = [COURIER_HOST, GAZETTE_HOST]
    for site in Site.objects.filter(hostname__in=hosts).exclude(port=settings.PORT):
        site.port = settings.PORT
        site.save()


@transaction.atomic
def clear() -> None:
    """Remove all pages, snippets, files and the demo's users."""
    Site.objects.all().delete()
    for page in Page.objects.filter(depth=2):
        page.specific.delete()
    for model in (Author, Notice, Category, get_image_model(), get_document_model()):
        for row in model.objects.all():
            row.delete()
    for collection in Collection.objects.filter(depth=2):
        collection.delete()
    get_user_model().objects.filter(username__in=USERS).delete()
    Group.objects.filter(name=SUBSCRIBERS).delete()
    Locale.objects.exclude(language_code=settings.LANGUAGE_CODE).delete()


@transaction.atomic
def build(say: Say) -> None:
    """Fill an empty site; all of it or nothing."""
    _Builder(say).build()


def _load(name: str) -> Any:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _mixed(articles: list[Row]) -> Iterator[Row]:
    """Yield one article of each section in turn, so that the front page is varied."""
    sections: dict[str, list[Row]] = {}
    for row in articles:
        sections.setdefault(row["section"], []).append(row)
    for layer in zip_longest(*sections.values()):
        yield from (row for row in layer if row)


class _Builder:
    def __init__(self, say: Say) -> None:
        self.say = say
        self.now: datetime = timezone.now().replace(minute=0, second=0, microsecond=0)
        self.ids: dict[tuple[str, str], int] = {}
        self.categories: dict[str, Category] = {}
        self.sections: dict[str, SectionPage] = {}
        self.articles: dict[str, ArticlePage] = {}  # by title

    def build(self) -> None:
        self.people()
        self.snippets()
        self.sites()
        self.english()
        self.german()
        self.restricted()
        self.documents()

    # People

    def people(self) -> None:
        self.say("Users and groups")
        subscribers, _ = Group.objects.get_or_create(name=SUBSCRIBERS)
        groups = {
            "editor": Group.objects.get(name="Editors"),
            "moderator": Group.objects.get(name="Moderators"),
            "member": subscribers,
        }
        for role in ("editor", "moderator"):
            verbs = ["add", "change", "delete"] + ["publish"] * (role == "moderator")
            groups[role].permissions.add(
                *Permission.objects.filter(
                    content_type__app_label="newsroom",
                    codename__in=[
                        f"{verb}_{name}"
                        for verb in verbs
                        for name in ("author", "notice", "category")
                    ],
                ),
                *Permission.objects.filter(codename="submit_translation"),
            )
        password = make_password(PASSWORD)
        for name in USERS:
            user = get_user_model().objects.create(
                username=name,
                email=f"{name}@example.com",
                first_name=name.capitalize(),
                password=password,
                is_staff=name == "admin",
                is_superuser=name == "admin",
            )
            if name in groups:
                user.groups.add(groups[name])

    # Snippets and pictures

    def snippets(self) -> None:
        self.say("Authors, notices and categories")
        data = _load("newsroom.toml")
        for row in data["author"]:
            author = Author.objects.create(
                name=row["name"],
                role=row["role"],
                bio=row["bio"],
                portrait=self.image(row["name"], pictures.portrait(row["name"])),
                live=False,
            )
            revision = author.save_revision()
            if not row.get("draft"):
                revision.publish()
            self.ids["author", row["key"]] = author.pk
        for row in data["notice"]:
            key = row.pop("key")
            self.ids["notice", key] = Notice.objects.create(**row).pk
        names = {name for row in _load("articles_en.toml")["article"] for name in row["categories"]}
        for name in sorted(names):
            self.categories[name] = Category.objects.create(name=name.capitalize(), slug=name)

    def image(self, title: str, content: bytes, description: str = "") -> Any:
        file = ImageFile(BytesIO(content), name=f"{slugify(title)}.jpg")
        return get_image_model().objects.create(title=title, description=description, file=file)

    def lookup(self, kind: str, key: str) -> int:
        if (kind, key) not in self.ids:
            scene, palette = key.split()
            image = self.image(
                f"{scene} {palette}".capitalize(),
                pictures.picture(key, scene, palette),
                f"Illustration: {scene}, in the colours of {palette}",
            )
            # The sizes that the API names, made now rather than by the first reader.
            sizes = ["width-1200"] if kind == "illustration" else ["fill-800x450", "fill-320x180"]
            image.get_renditions(*sizes)
            self.ids[kind, key] = image.pk
        return self.ids[kind, key]

    # Trees

    def sites(self) -> None:
        self.say("Two sites")
        root = Page.get_first_root_node()
        Site.objects.all().delete()
        for page in Page.objects.child_of(root):
            page.delete()
        root = Page.get_first_root_node()
        self.home = root.add_child(
            instance=HomePage(
                title="The Tidewell Courier",
                slug="home",
                intro="News from the town and the coast, as it happens.",
            )
        )
        self.gazette = root.add_child(
            instance=HomePage(
                title="Harbour Gazette",
                slug="gazette",
                intro="For everyone who works on the water.",
            )
        )
        for host, home, is_default in (
            (COURIER_HOST, self.home, True),
            (GAZETTE_HOST, self.gazette, False),
        ):
            Site.objects.create(
                hostname=host,
                port=settings.PORT,
                site_name=home.title,
                root_page=home,
                is_default_site=is_default,
            )
        for row in _load("newsroom.toml")["section"]:
            self.sections[row["key"]] = self.home.add_child(
                instance=SectionPage(
                    title=row["title"], intro=row["intro"], slug=row["key"], show_in_menus=True
                )
            )
        self.sections["quays"] = self.gazette.add_child(
            instance=SectionPage(
                title="Quays", intro="Berths, boats and ice.", slug="quays", show_in_menus=True
            )
        )
        for page in (self.home, self.gazette, *self.sections.values()):
            page.save_revision().publish()

    def english(self) -> None:
        rows = list(_mixed(_load("articles_en.toml")["article"]))
        self.say(f"{len(rows)} articles with their pictures")
        dated = [
            (row, self.now - timedelta(hours=2 + 5 * number)) for number, row in enumerate(rows)
        ]
        earlier: dict[str, ArticlePage] = {}
        for row, date in reversed(dated):
            body = text.stream(row["title"], row["body"], self.lookup)
            if before := earlier.get(row["section"]):
                link = f'<a linktype="page" id="{before.pk}">{escape(before.title)}</a>'
                body.append(text.paragraph(f"<b>Earlier:</b> {link}"))
            page = self.article(row, date, body)
            self.articles[row["title"]] = page
            if "key" in row:
                self.ids["page", row["key"]] = page.pk
            else:
                earlier[row["section"]] = page

    def article(self, row: Row, date: datetime, body: list[Row]) -> ArticlePage:
        page = ArticlePage(
            title=row["title"],
            slug=slugify(row["title"]),
            lead=row["lead"],
            date=date,
            author_id=self.ids["author", row["author"]],
            image_id=self.lookup("picture", row["picture"]),
            body=json.dumps(body),
            first_published_at=date,
            live=False,
        )
        page.categories = [self.categories[name] for name in row["categories"]]
        page.tags.add(*row["tags"])
        page.related_links = [
            RelatedLink(title=title, url=url, sort_order=number)
            for number, (title, url) in enumerate(row.get("links", []))
        ]
        if row.get("key") == "scheduled":
            page.go_live_at = self.now + timedelta(days=1)
            page.first_published_at = None
        self.sections[row["section"]].add_child(instance=page)
        revision = page.save_revision()
        if row.get("key") != "draft":
            revision.publish()
        return page

    def german(self) -> None:
        rows = _load("articles_de.toml")["article"]
        self.say(f"{len(rows)} of them in German")
        german = Locale.objects.create(language_code="de")
        home = self.home.copy_for_translation(german)
        home.intro = "Nachrichten aus der Stadt und von der Küste, sobald es sie gibt."
        home.save_revision().publish()
        for row in _load("newsroom.toml")["section"]:
            if "de" in row:
                section = self.sections[row["key"]].copy_for_translation(german)
                section.title, section.intro = row["de"]
                section.slug = slugify(section.title)
                section.save_revision().publish()
        for row in reversed(rows):
            source = self.articles[row["of"]]
            page = source.copy_for_translation(german)
            page.title, page.lead = row["title"], row["lead"]
            page.slug = slugify(page.title)
            page.body = json.dumps(text.stream(page.title, row["body"], self.lookup))
            page.first_published_at = source.date
            page.save_revision().publish()

    # Who may read what

    def restricted(self) -> None:
        self.say("Restricted pages")
        # Made before its source is restricted: it gets no rule of its own, only its source's.
        charts = ArticlePage.objects.get(pk=self.ids["page", "group"])
        charts.create_alias(parent=self.sections["town"])
        PageViewRestriction.objects.create(
            page=self.sections["members"], restriction_type=PageViewRestriction.LOGIN
        )
        PageViewRestriction.objects.create(
            page_id=self.ids["page", "password"],
            restriction_type=PageViewRestriction.PASSWORD,
            password=PAGE_PASSWORD,
        )
        for_group = PageViewRestriction.objects.create(
            page_id=self.ids["page", "group"], restriction_type=PageViewRestriction.GROUPS
        )
        for_group.groups.add(Group.objects.get(name=SUBSCRIBERS))

    def documents(self) -> None:
        self.say("Documents")
        archive = Collection.get_first_root_node().add_child(instance=Collection(name="Archive"))
        CollectionViewRestriction.objects.create(
            collection=archive, restriction_type=CollectionViewRestriction.LOGIN
        )
        for title, words, collection in (
            ("Tide tables", "High water at Tidewell: 04.12 and 16.37.\n", None),
            ("Source protection guidelines", "Never write down the name.\n", archive),
        ):
            file = ContentFile(words.encode(), name=f"{slugify(title)}.txt")
            get_document_model().objects.create(
                title=title,
                file=file,
                collection=collection or Collection.get_first_root_node(),
            )
