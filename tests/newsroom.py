"""A small newsroom for tests that make their own content."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from django.contrib.auth import get_user_model
from django.core.files.images import ImageFile
from PIL import Image as Picture
from wagtail.images import get_image_model
from wagtail.models import Locale, Page, Site

from example_project.newsroom.models import ArticlePage, Author, HomePage, SectionPage


@dataclass
class Newsroom:
    """A tree with two sections: ``town`` with two articles, ``arts`` with one."""

    root: Page
    site: Site
    home: HomePage
    town: SectionPage
    arts: SectionPage
    tram: ArticlePage
    bells: ArticlePage
    opera: ArticlePage
    author: Author


def build() -> Newsroom:
    """Write the newsroom to the test database, whatever a flush left of Wagtail's own rows."""
    Locale.objects.get_or_create(language_code="en")
    root = Page.objects.get(depth=1)
    for child in root.get_children():
        child.delete()
    root.refresh_from_db()
    home = root.add_child(instance=HomePage(title="Home", slug="home"))
    Site.objects.all().delete()
    site = Site.objects.create(hostname="localhost", root_page=home, is_default_site=True)
    town = home.add_child(instance=SectionPage(title="Town", slug="town"))
    arts = home.add_child(instance=SectionPage(title="Arts", slug="arts"))
    author = Author.objects.create(name="Inés", live=True)
    return Newsroom(
        root=root,
        site=site,
        home=home,
        town=town,
        arts=arts,
        tram=add_article(town, "Tram", author=author),
        bells=add_article(town, "Bells"),
        opera=add_article(arts, "Opera"),
        author=author,
    )


def add_article(section: SectionPage, title: str, **fields: object) -> ArticlePage:
    """Add a live article."""
    section = SectionPage.objects.get(pk=section.pk)
    page: ArticlePage = section.add_child(
        instance=ArticlePage(title=title, slug=title.lower(), lead=f"{title}, in short.", **fields)
    )
    return page


def publish(page: Page, **fields: object) -> None:
    """Change ``page`` and publish it, as the editor does: through a revision."""
    page = page.specific_class.objects.get(pk=page.pk)
    for name, value in fields.items():
        setattr(page, name, value)
    page.save_revision().publish()


def add_image(title: str = "A picture"):
    """Add an image to the library."""
    data = BytesIO()
    Picture.new("RGB", (900, 600), "teal").save(data, "PNG")
    data.seek(0)
    return get_image_model().objects.create(title=title, file=ImageFile(data, f"{title}.png"))


def add_user(name: str, **fields: object):
    return get_user_model().objects.create_user(username=name, password="demo", **fields)
