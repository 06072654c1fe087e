"""Content is what the API can show: heard through every kind of relation, and nothing else is."""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth import get_user_model
from taggit.models import Tag
from wagtail.documents import get_document_model
from wagtail.images import get_image_model
from wagtail.models import Page, Revision

from example_project.newsroom.models import (
    ArticlePage,
    ArticleTag,
    Author,
    Category,
    Notice,
    RelatedLink,
)
from wagtail_live.content import base_model, content_models, labels, page_labels, parental_key


def test_pages_media_snippets_children_and_tags_are_content() -> None:
    assert content_models() >= {
        Page,
        ArticlePage,
        get_image_model(),
        get_document_model(),
        Author,
        Category,
        Notice,
        RelatedLink,
        ArticleTag,
        Tag,
    }


def test_machinery_is_not_content() -> None:
    machinery = {get_user_model(), Revision, get_image_model().renditions.rel.related_model}
    assert not machinery & content_models()
    assert not {
        model
        for model in content_models()
        if model._meta.app_label in {"auth", "sessions", "contenttypes", "wagtailadmin"}
    }
    assert apps.get_model("wagtailcore.Comment") not in content_models()


def test_a_page_is_known_as_what_it_is_and_as_a_page() -> None:
    assert labels(ArticlePage) == ("newsroom.articlepage", "wagtailcore.page")
    assert base_model(ArticlePage) is Page
    assert {"wagtailcore.page", "newsroom.articlepage", "newsroom.homepage"} <= page_labels()


def test_a_child_object_knows_its_parent() -> None:
    key = parental_key(RelatedLink)
    assert key is not None and key.related_model is ArticlePage
    assert parental_key(ArticlePage) is None
