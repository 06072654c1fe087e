"""The demo's users, and one object of each kind of the example site."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.db.models import Model
from wagtail.documents import get_document_model
from wagtail.models import (
    Collection,
    CollectionViewRestriction,
    Locale,
    PageViewRestriction,
    Site,
)

from example_project.newsroom.models import Author, Category, HomePage, Notice, SectionPage
from example_project.newsroom.seed import build
from tests import newsroom
from tests.access import askers
from tests.newsroom import add_article, add_image

ASKERS: dict[str, Any] = {
    "public": askers.public,
    "password": askers.passed,
    "member": partial(askers.signed_in, "member"),
    "editor": partial(askers.signed_in, "editor"),
    "moderator": partial(askers.signed_in, "moderator"),
    "admin": partial(askers.signed_in, "admin"),
    "deactivated": partial(askers.switched_off, "member"),
}
if askers.has_tokens():
    ASKERS |= {
        "member's token": partial(askers.with_token, "member"),
        "admin's token": partial(askers.with_token, "admin"),
    }
QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "pages": ("pages", {"fields": "*", "limit": 100}),
    "articles": ("pages", {"type": "newsroom.ArticlePage", "fields": "*", "limit": 100}),
    "images": ("images", {"fields": "*"}),
    "documents": ("documents", {"fields": "*"}),
    "authors": ("authors", {"fields": "*"}),
    "categories": ("categories", {"fields": "*"}),
    "notices": ("notices", {"fields": "*"}),
}
Things = dict[str, dict[str, Model]]


def make() -> Things:
    """Write it; return what there is by collection and kind."""
    news = newsroom.build()
    build._Builder(lambda _: None).people()
    return {
        "pages": _pages(news),
        "images": {name: add_image(name) for name in ("open",)} | _in_collections(_image),
        "documents": {"open": _document("open", None)} | _in_collections(_document),
        "authors": {
            "live": news.author,
            "draft": Author.objects.create(name="Nobody yet", live=False),
        },
        "categories": {"any": Category.objects.create(name="Boats", slug="boats")},
        "notices": {"any": Notice.objects.create(text="Gale")},
    }


def _pages(news: newsroom.Newsroom) -> dict[str, Model]:
    home = HomePage.objects.get(pk=news.home.pk)
    members = home.add_child(instance=SectionPage(title="Members", slug="members"))
    pages = {
        "home": news.home,
        "section": news.town,
        "open": news.tram,
        "draft": add_article(news.town, "Draft", live=False),
        "private section": members,
        "under login": add_article(members, "Letters"),
        "password": add_article(news.arts, "Herring"),
        "group": add_article(news.arts, "Charts"),
        "login and group": add_article(members, "Ledger"),
    }
    source = pages["group"].specific_class.objects.get(pk=pages["group"].pk)
    pages["alias of group"] = source.create_alias(
        parent=SectionPage.objects.get(pk=news.town.pk), update_slug="charts-too"
    )
    pages["open alias"] = news.opera.create_alias(
        parent=SectionPage.objects.get(pk=news.town.pk), update_slug="opera-too"
    )
    german = Locale.objects.create(language_code="de")
    pages["translation"] = news.home.copy_for_translation(german)
    pages["translation"].save_revision().publish()
    gazette = news.root.__class__.objects.get(depth=1).add_child(
        instance=HomePage(title="Gazette", slug="gazette")
    )
    Site.objects.create(hostname="gazette.localhost", root_page=gazette)
    pages["other site"] = gazette
    restrict(PageViewRestriction, "page", members, "login")
    restrict(PageViewRestriction, "page", pages["password"], "password", password="herring")
    for one in (pages["group"], pages["login and group"]):
        restrict(PageViewRestriction, "page", one, "groups")
    return pages


def _in_collections(add: Any) -> dict[str, Model]:
    """One in a collection of each kind, and one in a collection below a private one."""
    root = Collection.get_first_root_node()
    found = {}
    for kind in ("login", "password", "groups"):
        collection = root.add_child(instance=Collection(name=kind))
        restrict(CollectionViewRestriction, "collection", collection, kind, password="herring")
        found[kind] = add(kind, collection)
        root.refresh_from_db()
    below = Collection.objects.get(pk=collection.pk).add_child(instance=Collection(name="below"))
    return {**found, "below groups": add("below", below)}


def _image(title: str, collection: Collection) -> Model:
    image = add_image(title)
    image.collection = collection
    image.save()
    return image


def _document(title: str, collection: Collection | None) -> Model:
    return get_document_model().objects.create(
        title=title,
        file=ContentFile(b"words", name=f"{title}.txt"),
        collection=collection or Collection.get_first_root_node(),
    )


def restrict(model: type[Any], target: str, thing: Model, kind: str, **fields: str) -> None:
    rule = model.objects.create(**{target: thing}, restriction_type=kind, **fields)
    if kind == "groups":
        rule.groups.add(Group.objects.get(name=build.SUBSCRIBERS))
