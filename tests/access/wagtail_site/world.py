"""What the fixtures of Wagtail's own tests hold, and somebody of some of their groups."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db.models import Model
from wagtail.documents import get_document_model
from wagtail.images import get_image_model
from wagtail.models import Collection, Page
from wagtail.test.testapp.models import Advert

from tests.access import askers
from tests.newsroom import add_image

GROUPS = {"event editor": "Event editors", "admin non-editor": "Admin non-editors"}
#: Whom the fixtures name and do not bring.
OWNERS = range(1, 10)
ASKERS: dict[str, Any] = {
    "public": askers.public,
    "password": askers.passed,
    "superuser": partial(askers.signed_in, "superuser"),
    **{name: partial(askers.signed_in, name) for name in GROUPS},
}
QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "pages": ("pages", {"fields": "*", "limit": 100}),
    "events": ("pages", {"type": "tests.EventPage", "fields": "*", "limit": 100}),
    "images": ("images", {"fields": "*"}),
    "documents": ("documents", {"fields": "*"}),
    "adverts": ("adverts", {"fields": "*"}),
}


def make() -> dict[str, dict[str, Model]]:
    """Load it; return what there is by collection and kind."""
    users = get_user_model().objects
    for key in OWNERS:
        users.create(pk=key, username=f"owner {key}")
    call_command("loaddata", "test.json", verbosity=0)
    users.create_superuser("superuser")
    for name, group in GROUPS.items():
        users.create(username=name).groups.add(Group.objects.get(name=group))
    get_image_model().objects.all().delete()
    get_document_model().objects.all().delete()
    collections = Collection.objects.all()
    return {
        "pages": {page.title: page.specific for page in _on_the_site()},
        "images": {one.name: _filed(add_image(one.name), one) for one in collections},
        "documents": {one.name: _filed(_document(one.name), one) for one in collections},
        "adverts": {advert.text: advert for advert in Advert.objects.all()},
    }


def _on_the_site() -> Any:
    """Return all but the page outside every site: see ``test_no_site``."""
    return Page.objects.filter(path__startswith=Page.objects.get(pk=2).path)


def _filed(thing: Any, collection: Collection) -> Model:
    thing.collection = collection
    thing.save()
    return thing


def _document(title: str) -> Model:
    file = ContentFile(b"words", name="words.txt")
    return get_document_model().objects.create(title=title, file=file)
