"""One line gives a snippet an endpoint, and with it a collection to follow."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from example_project.newsroom.models import Author, Category, Notice
from wagtail_live.endpoints import snippet_endpoint

pytestmark = pytest.mark.usefixtures("committed")


def get(path: str) -> dict:
    response = Client().get(f"/api/v2/{path}")
    return json.loads(response.content) | {"status": response.status_code}


def test_only_live_rows_of_a_draftable_snippet_are_there() -> None:
    live = Author.objects.create(name="Inés", live=True)
    draft = Author.objects.create(name="Nobody", live=False)
    assert [row["id"] for row in get("authors/")["items"]] == [live.pk]
    assert get(f"authors/{live.pk}/")["name"] == "Inés"
    assert get(f"authors/{draft.pk}/")["status"] == 404


def test_the_listing_has_all_api_fields() -> None:
    Notice.objects.create(text="Fog", level="warning")
    [row] = get("notices/")["items"]
    assert (row["text"], row["level"]) == ("Fog", "warning")


def test_filters_and_order_work_as_for_pages() -> None:
    Category.objects.create(name="Arts", slug="arts")
    Category.objects.create(name="Town", slug="town")
    assert [row["name"] for row in get("categories/?order=-name")["items"]] == ["Town", "Arts"]
    assert [row["name"] for row in get("categories/?slug=arts")["items"]] == ["Arts"]
    assert get("categories/?nonsense=1")["status"] == 400


def test_each_model_has_a_class_of_its_own() -> None:
    one, two = snippet_endpoint(Author), snippet_endpoint(Notice)
    assert (one.model, one.__name__) == (Author, "AuthorAPIViewSet")
    assert (two.model, two.__name__) == (Notice, "NoticeAPIViewSet")
