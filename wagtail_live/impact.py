"""
What a run of entries may have touched: the step from the log to the live queries.

Subtrees get their members here, and what contains a changed object is found. Blocking: call it
through ``database.run``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
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
from wagtail_live.events import Entry, Kind, Touched

#: A page may show a snippet that shows an image: how many such steps are followed.
DEPENDENCY_DEPTH = 3

#: By label and key, the number of the newest entry that touched it.
Changed = dict[str, dict[Hashable, int]]


def touched(entries: Sequence[Entry]) -> Touched:
    """Return what ``entries`` may have touched."""
    changed: Changed = defaultdict(dict)
    compare: dict[str, int] = {}
    renew: dict[str, int] = {}
    access: dict[str, int] = {}
    steps: dict[str, set[int]] = defaultdict(set)
    #: What did not change itself, and looks another way to those who refer to it.
    behind: Changed = defaultdict(dict)
    for entry in entries:
        model = _model(entry.model)
        if model is None:
            continue
        number = entry.position.number
        direct: Changed = defaultdict(dict)
        match entry.kind:
            case Kind.SAVE if entry.object_id:
                _add(direct, model, {entry.object_id: number})
            case Kind.SAVE:
                compare.update(dict.fromkeys(labels(model), number))
            case Kind.DELETE:
                _add_gone(direct, entry)
            case Kind.ACCESS:
                whole = page_labels() if model is page_model() else _labels_in_collections()
                compare.update(dict.fromkeys(whole, number))
                _add_restricted(behind, model, entry.object_id, number)
            case Kind.SITE:
                Site.clear_site_root_paths_cache()
                renew.update(dict.fromkeys(_exposed_labels(), number))
            case Kind.RIGHTS if not entry.object_id:
                access.update(dict.fromkeys(_exposed_labels(), number))
        for label, keys in direct.items():
            changed[label].update(keys)
            steps[label].add(number)
        for label, newest in (*compare.items(), *renew.items(), *access.items()):
            steps[label].add(newest)
    moved = moved_trees(entries)
    if moved:
        Site.clear_site_root_paths_cache()
        saves = {entry.position.number for entry in entries if _is_pages_save(entry)}
        for label in page_labels():
            _newest(changed[label], moved)
            # Which of several saves moved the tree is not known: before and after each differ.
            steps[label] |= saves
    _add_dependents(changed, behind)
    for label, keys in changed.items():
        steps[label].update(keys.values())
    return Touched(
        changed={label: keys for label, keys in changed.items() if keys},
        compare=compare,
        renew=renew,
        access=access,
        steps={label: frozenset(numbers) for label, numbers in steps.items()},
    )


def _model(label: str) -> type[Model] | None:
    try:
        return apps.get_model(label)
    except LookupError:
        return None


def _newest(known: dict[Hashable, int], found: Mapping[Hashable, int]) -> None:
    for key, number in found.items():
        known[key] = max(number, known.get(key, 0))


def _add(changed: Changed, model: type[Model], numbers: Mapping[Any, int]) -> None:
    to_python = base_model(model)._meta.pk.to_python
    found: dict[Hashable, int] = {to_python(key): number for key, number in numbers.items()}
    for label in labels(model):
        _newest(changed[label], found)
    if model is page_model():
        # Known only as pages: live queries may follow them as what they are.
        rows = model._base_manager.filter(pk__in=found).values_list("pk", "content_type_id")
        for key, content_type in rows:
            specific = ContentType.objects.get_for_id(content_type).model_class()
            if specific not in {None, model}:
                _add(changed, specific, {key: found[key]})


def _add_gone(changed: Changed, entry: Entry) -> None:
    was = entry.was or {}
    number = entry.position.number
    for gone in was["objects"]:
        model = _model(gone["model"])
        if model is not None:
            _add(changed, model, {gone["pk"]: number})
    for label, key in was["used_by"]:
        model = _model(label)
        if model is not None:
            _add(changed, model, {key: number})


def moved_trees(entries: Sequence[Entry]) -> dict[Hashable, int]:
    """Return the keys of all pages below a page whose path or address changed."""
    before = {int(entry.object_id): entry for entry in reversed(entries) if _is_pages_save(entry)}
    if not before:
        return {}
    newest = {
        int(entry.object_id): entry.position.number for entry in entries if _is_pages_save(entry)
    }
    pages = page_model()._base_manager
    roots = {
        path: newest[pk]
        for pk, path, url_path in pages.filter(pk__in=before).values_list("pk", "path", "url_path")
        if _where(before[pk]) != (path, url_path)
    }
    if not roots:
        return {}
    # Of several trees that moved, one within the other, the newest counts for all: too much of
    # what has changed is looked at, never too little.
    last = max(roots.values())
    return dict.fromkeys(pages.filter(below(roots)).values_list("pk", flat=True), last)


def _is_pages_save(entry: Entry) -> bool:
    return entry.kind is Kind.SAVE and entry.was is not None and "url_path" in entry.was


def _where(entry: Entry) -> tuple[str, str]:
    was = entry.was or {}
    return was["path"], was["url_path"]


def below(paths: Iterable[str]) -> Q:
    """Return the condition for pages in one of the trees at ``paths``, of which there is one."""
    return reduce(or_, (Q(path__startswith=path) for path in paths))


def _exposed_labels() -> set[str]:
    return {label for model in exposed_models() for label in labels(model)}


def _labels_in_collections() -> set[str]:
    return {
        label
        for model in content_models()
        if any(field.name == "collection" for field in model._meta.concrete_fields)
        for label in labels(model)
    }


def _add_restricted(behind: Changed, model: type[Any], key: str, number: int) -> None:
    """Add what lies below a page or a collection whose restrictions changed."""
    if model is page_model():
        aliases: Changed = defaultdict(dict)
        _add_aliases(aliases, {int(key): number})
        roots = {int(key), *aliases.get(model._meta.label_lower, ())}
        paths = model._base_manager.filter(pk__in=roots).values_list("path", flat=True)
        if paths:
            found = model._base_manager.filter(below(paths)).values_list("pk", flat=True)
            _add(behind, model, dict.fromkeys(found, number))
        return
    # Without a key, any collection may be meant: one was moved in the tree.
    moved = model._base_manager.filter(pk=key) if key else model._base_manager.filter(depth=1)
    path = moved.values_list("path", flat=True).first()
    for content in content_models() if path else ():
        if any(field.name == "collection" for field in content._meta.local_concrete_fields):
            rows = content._base_manager.filter(collection__path__startswith=path)
            found = rows.values_list("pk", flat=True)
            _add(behind, content, dict.fromkeys(found, number))


def _add_dependents(changed: Changed, behind: Changed) -> None:
    """
    Add what contains an object that changed or is in ``behind``: the reference index and
    many-to-many rows know it.
    """
    frontier: Changed = defaultdict(dict)
    for sources in (changed, behind):
        for label, keys in sources.items():
            _newest(frontier[label], keys)
    for _ in range(DEPENDENCY_DEPTH):
        found: Changed = defaultdict(dict)
        for label, numbers in frontier.items():
            model = apps.get_model(label)
            if model is base_model(model):
                _add_referring(found, model, numbers)
            if model is page_model():
                _add_aliases(found, numbers)
            _add_related(found, model, numbers)
        frontier = {}
        for label, numbers in found.items():
            known = changed.get(label, {})
            newer = {key: number for key, number in numbers.items() if number > known.get(key, 0)}
            if newer:
                frontier[label] = newer
                changed[label].update(newer)
        if not frontier:
            return


def _add_referring(found: Changed, model: type[Model], numbers: Mapping[Hashable, int]) -> None:
    by_text = {str(key): number for key, number in numbers.items()}
    last = max(numbers.values(), default=0)
    rows = ReferenceIndex.objects.filter(
        to_content_type=ContentType.objects.get_for_model(model, for_concrete_model=False),
        to_object_id__in=list(by_text),
    ).values_list("content_type_id", "object_id", "to_object_id")
    for content_type, key, target in set(rows):
        source = ContentType.objects.get_for_id(content_type).model_class()
        if source in content_models():
            _add(found, source, {key: by_text.get(target, last)})


def _add_aliases(found: Changed, numbers: Mapping[Hashable, int]) -> None:
    """An alias says of what it is one, and where that is; the reference index leaves this out."""
    rows = page_model()._base_manager.filter(alias_of__in=numbers.keys())
    _add_sources(found, page_model(), rows.values_list("pk", "alias_of"), numbers)


def _add_related(found: Changed, model: type[Model], numbers: Mapping[Hashable, int]) -> None:
    """
    Add the rows whose foreign keys and many-to-many relations point at ``numbers``.

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
        rows = source._base_manager.filter(**{f"{field.name}__in": numbers.keys()})
        parent = parental_key(source)
        if parent is None:
            _add_sources(found, source, rows.values_list("pk", field.name), numbers)
        else:
            pairs = rows.values_list(parent.attname, field.name)
            _add_sources(found, parent.related_model, pairs, numbers)


def _add_sources(
    found: Changed,
    model: type[Any],
    pairs: Iterable[tuple[Hashable, Hashable]],
    numbers: Mapping[Hashable, int],
) -> None:
    """Add the first of each pair, with the number of what it points at, the second."""
    last = max(numbers.values(), default=0)
    newest: dict[Hashable, int] = {}
    for key, target in pairs:
        newest[key] = max(newest.get(key, 0), numbers.get(target, last))
    _add(found, model, newest)
