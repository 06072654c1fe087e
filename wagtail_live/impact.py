"""
What a run of entries may have touched: the step from the log to the live queries.

Subtrees get their members here, and what contains a changed object is found. Blocking: call it
through ``database.run``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db.models import ForeignKey, ManyToManyField, Model, Q
from modelcluster.fields import ParentalKey
from wagtail.models import ReferenceIndex, Site

from wagtail_live.content import (
    base_model,
    content_models,
    exposed_models,
    labels,
    page_labels,
    page_model,
    parental_key,
)
from wagtail_live.events import Batch, Entry, Kind, Position

#: A page may show a snippet that shows an image: how many such steps are followed.
DEPENDENCY_DEPTH = 3

Changed = dict[str, set[Hashable]]


def batch(entries: Sequence[Entry], before: Position) -> Batch:
    """Return what ``entries``, which follow position ``before``, may have touched."""
    changed: Changed = defaultdict(set)
    compare: set[str] = set()
    renew: set[str] = set()
    for entry in entries:
        model = _model(entry.model)
        if model is None:
            continue
        match entry.kind:
            case Kind.SAVE if entry.object_id:
                _add(changed, model, [entry.object_id])
            case Kind.SAVE:
                compare.update(labels(model))
            case Kind.DELETE:
                _add_gone(changed, entry)
            case Kind.ACCESS:
                compare |= page_labels() if model is page_model() else _labels_in_collections()
            case Kind.SITE:
                Site.clear_site_root_paths_cache()
                renew |= {label for one in exposed_models() for label in labels(one)}
    subtrees = _moved_trees(entries)
    if subtrees:
        Site.clear_site_root_paths_cache()
        for label in page_labels():
            changed[label] |= subtrees
    _add_dependents(changed)
    return Batch(
        before=before,
        last=entries[-1].position,
        changed={label: frozenset(keys) for label, keys in changed.items() if keys},
        compare=frozenset(compare),
        renew=frozenset(renew),
    )


def _model(label: str) -> type[Model] | None:
    try:
        return apps.get_model(label)
    except LookupError:
        return None


def _add(changed: Changed, model: type[Model], keys: Iterable[Any]) -> None:
    found = set(map(base_model(model)._meta.pk.to_python, keys))
    for label in labels(model):
        changed[label] |= found
    if model is page_model():
        # Known only as pages: live queries may follow them as what they are.
        rows = model._base_manager.filter(pk__in=found).values_list("pk", "content_type_id")
        for key, content_type in rows:
            specific = ContentType.objects.get_for_id(content_type).model_class()
            if specific not in {None, model}:
                _add(changed, specific, [key])


def _add_gone(changed: Changed, entry: Entry) -> None:
    was = entry.was or {}
    for gone in was["objects"]:
        model = _model(gone["model"])
        if model is not None:
            _add(changed, model, [gone["pk"]])
    for label, key in was["used_by"]:
        model = _model(label)
        if model is not None:
            _add(changed, model, [key])


def _moved_trees(entries: Sequence[Entry]) -> set[Hashable]:
    """Return the keys of all pages below a page whose path or address changed."""
    before = {
        int(entry.object_id): entry.was
        for entry in reversed(entries)
        if entry.kind is Kind.SAVE and entry.was and "url_path" in entry.was
    }
    if not before:
        return set()
    pages = page_model()._base_manager
    now = pages.filter(pk__in=before).values_list("pk", "path", "url_path")
    roots = [
        path
        for pk, path, url_path in now
        if (before[pk]["path"], before[pk]["url_path"]) != (path, url_path)
    ]
    if not roots:
        return set()
    return set(pages.filter(below(roots)).values_list("pk", flat=True))


def below(paths: Iterable[str]) -> Q:
    """Return the condition for pages in one of the trees at ``paths``, of which there is one."""
    return reduce(or_, (Q(path__startswith=path) for path in paths))


def _labels_in_collections() -> set[str]:
    return {
        label
        for model in content_models()
        if any(field.name == "collection" for field in model._meta.concrete_fields)
        for label in labels(model)
    }


def _add_dependents(changed: Changed) -> None:
    """Add what contains a changed object: the reference index and many-to-many rows know it."""
    frontier = {label: set(keys) for label, keys in changed.items()}
    for _ in range(DEPENDENCY_DEPTH):
        found: Changed = defaultdict(set)
        for label, keys in frontier.items():
            model = apps.get_model(label)
            if model is base_model(model):
                _add_referring(found, model, keys)
            if model is page_model():
                _add_aliases(found, keys)
            _add_related(found, model, keys)
        frontier = {
            label: keys - changed.get(label, set())
            for label, keys in found.items()
            if keys - changed.get(label, set())
        }
        for label, keys in frontier.items():
            changed[label] |= keys
        if not frontier:
            return


def _add_referring(found: Changed, model: type[Model], keys: set[Hashable]) -> None:
    rows = ReferenceIndex.objects.filter(
        to_content_type=ContentType.objects.get_for_model(model, for_concrete_model=False),
        to_object_id__in=[str(key) for key in keys],
    ).values_list("content_type_id", "object_id")
    for content_type, key in set(rows):
        source = ContentType.objects.get_for_id(content_type).model_class()
        if source in content_models():
            _add(found, source, [key])


def _add_aliases(found: Changed, keys: set[Hashable]) -> None:
    """An alias says of what it is one, and where that is; the reference index leaves this out."""
    rows = page_model()._base_manager.filter(alias_of__in=keys)
    _add(found, page_model(), rows.values_list("pk", flat=True))


def _add_related(found: Changed, model: type[Model], keys: set[Hashable]) -> None:
    """
    Add the rows whose foreign keys and many-to-many relations point at ``keys``.

    The reference index knows most of the former, but a task writes it, perhaps later.
    """
    for relation in model._meta.get_fields(include_hidden=True):
        field: Any = getattr(relation, "remote_field", None)
        if not isinstance(field, ForeignKey | ManyToManyField) or field.model is None:
            continue
        source = field.model
        if source not in content_models() or getattr(field.remote_field, "parent_link", False):
            continue
        if isinstance(field, ParentalKey):
            continue
        rows = source._base_manager.filter(**{f"{field.name}__in": keys})
        parent = parental_key(source)
        if parent is None:
            _add(found, source, rows.values_list("pk", flat=True))
        else:
            _add(found, parent.related_model, rows.values_list(parent.attname, flat=True))
