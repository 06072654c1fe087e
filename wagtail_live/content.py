"""
Which models are content: whatever the project's API v2 can show, and nothing else.

Pages, the router's models, and from there everything that their representation can contain: child
objects, foreign keys, many-to-many targets, what choosers in StreamFields choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from django.apps import apps
from django.db.models import ForeignKey, Model
from modelcluster.fields import ParentalKey
from wagtail.blocks import BaseBlock, ChooserBlock, ListBlock, StreamBlock, StructBlock
from wagtail.documents import get_document_model
from wagtail.fields import StreamField
from wagtail.images import get_image_model

from wagtail_live import conf
from wagtail_live.exceptions import LiveConfigurationError

#: Apps whose models are machinery. Their content (pages, images, documents) is named outright.
MACHINERY = frozenset(
    {
        "admin",
        "auth",
        "contenttypes",
        "sessions",
        "wagtail_live",
        "wagtailadmin",
        "wagtailcore",
        "wagtaildocs",
        "wagtailimages",
        "wagtailsearch",
        "wagtailusers",
    }
)


def page_model() -> type[Any]:
    """Return the base page model."""
    return apps.get_model(conf.page_label())


@cache
def page_models() -> tuple[type[Any], ...]:
    """Return the base page model and every model of pages."""
    base = page_model()
    return tuple(model for model in apps.get_models() if issubclass(model, base))


@cache
def page_labels() -> frozenset[str]:
    """Return the labels of all page models."""
    return frozenset(model._meta.label_lower for model in page_models())


@cache
def exposed_models() -> frozenset[type[Model]]:
    """Return the models that the router has an endpoint for, with their subclasses."""
    try:
        endpoints = conf.api_router()._endpoints.values()
    except LiveConfigurationError:
        return frozenset()
    roots = tuple(endpoint.model for endpoint in endpoints)
    return frozenset(model for model in apps.get_models() if issubclass(model, roots))


@cache
def content_models() -> frozenset[type[Model]]:
    """Return every model whose rows the API can show, child objects included."""
    named = {get_image_model(), get_document_model(), *page_models(), *exposed_models()}
    found: set[type[Model]] = set()
    frontier = set(named)
    while frontier:
        found |= frontier
        related = {other for model in frontier for other in _contained(model)}
        frontier = {
            model
            for model in related - found
            if model in named or model._meta.app_label not in MACHINERY
        }
    return frozenset(found)


@cache
def parental_key(model: type[Model]) -> ForeignKey[Any, Any] | None:
    """Return the field that makes ``model`` a child object, or None."""
    return next((field for field in model._meta.fields if isinstance(field, ParentalKey)), None)


@cache
def labels(model: type[Model]) -> tuple[str, ...]:
    """Return the labels under which a row of ``model`` is known: its own and its parents'."""
    concrete = model._meta.concrete_model or model
    return tuple(one._meta.label_lower for one in (concrete, *concrete._meta.get_parent_list()))


@cache
def kinds(model: type[Model]) -> tuple[type[Model], ...]:
    """Return what a row of ``model`` can be: ``model`` itself and every model that is one."""
    return tuple({model, *(one for one in apps.get_models() if issubclass(one, model))})


def base_model(model: type[Model]) -> type[Model]:
    """Return the root of the multi-table inheritance that ``model`` belongs to."""
    concrete = model._meta.concrete_model or model
    return (concrete, *concrete._meta.get_parent_list())[-1]


def _contained(model: type[Model]) -> Iterator[type[Model]]:
    for field in model._meta.get_fields():
        if isinstance(field, StreamField):
            yield from _chosen(field.stream_block)
        elif field.is_relation and field.related_model is not None and field.concrete:
            yield field.related_model
        elif isinstance(getattr(field, "field", None), ParentalKey):
            yield field.related_model  # type: ignore[misc]  # the child's, so there is one
    for many in model._meta.many_to_many:
        yield many.related_model


def _chosen(block: BaseBlock) -> Iterator[type[Model]]:
    match block:
        case ChooserBlock():
            yield block.target_model
        case ListBlock():
            yield from _chosen(block.child_block)
        case StreamBlock() | StructBlock():
            for child in block.child_blocks.values():
                yield from _chosen(child)
