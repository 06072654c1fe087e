"""
The content at the beginning: `python -m tests.chaos.site FILE` makes it and tells FILE of it.

Sections come in pairs, each worker of the writer owns one pair; every title begins with the version
of the object, `v0`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import django

WORKERS = 3
ARTICLES = 5
NOTICES = 4
AUTHORS = 4
IMAGES = 2


def main(path: Path) -> None:
    django.setup()
    path.write_text(json.dumps(build()))


def build() -> dict[str, Any]:
    """Make tables and content; return the world: its objects and the askers' cookies."""
    # ruff: noqa: PLC0415 - models can be imported once Django is set up
    from django.apps import apps
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group
    from django.core.management import call_command
    from django.test import Client
    from wagtail.images import get_image_model
    from wagtail.models import Collection, Locale, Page, PageViewRestriction, Site

    from example_project.newsroom.models import ArticlePage, Author, HomePage, Notice, SectionPage

    # Migrations take half a minute.
    settings.MIGRATION_MODULES = {app.label: None for app in apps.get_app_configs()}
    call_command("migrate", run_syncdb=True, verbosity=0)
    Locale.objects.create(language_code="en")
    Collection.add_root(name="Root")
    objects: dict[str, dict[str, Any]] = {}

    def note(kind: str, collection: str, row: Any, **state: Any) -> None:
        state = {"live": True, "restricted": None, "parent": None, "version": 0} | state
        objects[f"{collection}:{row.pk}"] = {"kind": kind, **state}

    root = Page.add_root(title="Root", slug="root")
    home = root.add_child(instance=HomePage(title="v0 Home", slug="home"))
    note("home", "pages", home)
    Site.objects.create(hostname="localhost", root_page=home, is_default_site=True)
    pairs = [f"{name}{worker}" for worker in range(WORKERS) for name in "ab"]
    for slug in [*pairs, "hidden0", "hidden1", "scheduled"]:
        section = home.add_child(instance=SectionPage(title=f"v0 {slug}", slug=slug))
        hidden = slug.startswith("hidden")
        note("section", "pages", section, slug=slug, restricted="password" if hidden else None)
        if hidden:
            PageViewRestriction.objects.create(
                page=section, restriction_type="password", password="-"
            )
        for number in range(ARTICLES):
            title = f"v0 {slug} {number}"
            article = section.add_child(
                instance=ArticlePage(title=title, slug=f"{slug}-{number}", lead="-")
            )
            note("article", "pages", article, parent=f"pages:{section.pk}")
    for number in range(NOTICES):
        note("notice", "notices", Notice.objects.create(text=f"v0 notice {number}"))
    for number in range(AUTHORS):
        note("author", "authors", Author.objects.create(name=f"v0 author {number}", live=True))
    for number in range(IMAGES):
        image = get_image_model()(title=f"v0 image {number}", width=1, height=1, file="none.png")
        get_image_model().objects.bulk_create([image])
    for image in get_image_model().objects.all():
        note("image", "images", image)
    member = get_user_model().objects.create_user(username="member", password="-")
    member.groups.add(Group.objects.create(name="Subscribers"))
    browser = Client()
    browser.force_login(member)
    return {
        "objects": objects,
        "cookies": {
            "public": "",
            "member": f"sessionid={browser.cookies['sessionid'].value}",
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
