"""
What a returning client missed: the gap in the log, seen with the rights of now.

All or nothing: either the whole gap or ``BadCursor``, and a fresh snapshot. The process may never
have held this live query before, so "before" is what the entries say of each object's visibility.
Blocking: call it through ``database.run``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from django.apps import apps

from wagtail_live import impact
from wagtail_live.content import base_model, page_model
from wagtail_live.events import Batch, Entry, Gap, Kind, Missed
from wagtail_live.exceptions import BadCursor
from wagtail_live.hub import LiveQuery, Question
from wagtail_live.noticed import Before, noticed
from wagtail_live.policy import Policy
from wagtail_live.representation import Representation


def missed(
    representation: Representation, live_query: LiveQuery, gap: Gap, *, limit: int
) -> Missed:
    """
    Return what changed for ``live_query`` in ``gap``.

    Raises ``BadCursor`` when that cannot be told, or when a snapshot is shorter.
    """
    entries, batch = gap.entries, gap.batch
    question = live_query.question(batch)
    if question is None:
        return Missed({}, {}, frozenset(), batch.last)
    found, seen_batch = noticed(representation, entries), batch
    if len(found) < len(entries):
        seen_batch = impact.touched(found).batch(batch.before, batch.last)
    seen = live_query.question(seen_batch)
    if seen is not None:
        _refuse_what_cannot_be_told(live_query, seen, seen_batch, found)
    keys = question.keys
    answer = representation.answer(keys, compare=False, known=frozenset(), limit=limit)
    if answer.too_many:
        raise BadCursor("too_many")
    known, before = _visibility(representation, live_query, entries)
    left = _of_its_model(
        live_query,
        {key for key in _asked(live_query, keys) - answer.rows.keys() if key in before},
    )
    if left and _cannot_know(representation.policy):
        raise BadCursor("access_changed")
    moved = bool(impact.moved_trees(entries))
    deleted = any(entry.kind is Kind.DELETE for entry in entries)
    if not representation.policy.knows_places(representation.asker, moved=moved, deleted=deleted):
        raise BadCursor("access_changed")
    return Missed(
        created={key: row for key, row in answer.rows.items() if not known.get(key, True)},
        updated={
            key: row
            for key, row in answer.rows.items()
            if known.get(key, True) and _is_asked(live_query, seen, key)
        },
        left=left,
        last=batch.last,
        events=answer.events,
    )


def _cannot_know(policy: Policy) -> bool:
    """Return whether ``policy`` hides what it does not say of the past: a key would be news."""
    own = type(policy)
    return own.visible is not Policy.visible and own.was_visible is Policy.was_visible


def _refuse_what_cannot_be_told(
    live_query: LiveQuery, question: Question, batch: Batch, entries: Sequence[Entry]
) -> None:
    if question.renew:
        raise BadCursor(question.renew)
    if not question.compare:
        return
    if live_query.label not in batch.compare:
        raise BadCursor("query_changed")
    # What its holder has depends on when it was told: a fresh base is surer than a retraction too
    # few or, of what never was to be seen, one too many.
    if any(entry.kind is Kind.ACCESS for entry in entries):
        raise BadCursor("access_changed")
    raise BadCursor("query_changed")


def _is_asked(live_query: LiveQuery, question: Question | None, key: Hashable) -> bool:
    """Return whether ``question``, that of what can be noticed, is about ``key`` too."""
    if question is None:
        return False
    return live_query.query.item is not None or key in question.keys


def _asked(live_query: LiveQuery, keys: frozenset[Hashable]) -> frozenset[Hashable]:
    item = live_query.query.item
    return keys if item is None else keys & {item}


def _of_its_model(live_query: LiveQuery, keys: set[Hashable]) -> frozenset[Hashable]:
    """Leave out rows that are there and of another model: a moved tree has pages of all kinds."""
    model = apps.get_model(live_query.label)
    others = base_model(model)._base_manager.filter(pk__in=keys).values_list("pk", flat=True)
    same = model._base_manager.filter(pk__in=keys).values_list("pk", flat=True)
    return frozenset(keys - (set(others) - set(same))) if keys else frozenset()


def _visibility(
    representation: Representation, live_query: LiveQuery, entries: Sequence[Entry]
) -> tuple[dict[Hashable, bool], set[Hashable]]:
    """
    Return by key whether the audience could read an object before its first entry, and the keys of
    those that it could read before any.

    A client may hold what came after its cursor: a base is read after its position, a row is told
    as it is by then, and of a change of several frames the connection may have carried only some.
    """
    root = base_model(apps.get_model(live_query.label))
    to_python = root._meta.pk.to_python
    known: dict[Hashable, bool] = {}
    seen: set[Hashable] = set()
    before = Before(representation, entries)

    def note(key: Hashable, model: str, was: Any) -> None:
        visible = before.saw(model, key, was)
        known.setdefault(key, visible)
        if visible:
            seen.add(key)

    for entry in entries:
        if entry.kind is Kind.SAVE:
            said: list[tuple[Any, Any]] = [(entry.object_id, entry.was)]
        elif entry.kind is Kind.DELETE and entry.was is not None:
            said = [(gone["pk"], gone) for gone in entry.was["objects"]]
        else:
            continue
        if not entry.object_id or base_model(apps.get_model(entry.model)) is not root:
            continue
        for key, was in said:
            note(to_python(key), entry.model, was)
        if entry.was is not None and "url_path" in entry.was:
            for key, was in _moved_along(int(entry.object_id), entry.was["path"]):
                note(key, entry.model, was)
    return known, seen


def _moved_along(root: int, old_path: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (key, was) of the pages below a page that was saved, as if they had moved with it."""
    pages = page_model()._base_manager
    path = pages.filter(pk=root).values_list("path", flat=True).first()
    if path is None or path == old_path:
        return []
    rows = pages.filter(path__startswith=path).exclude(pk=root)
    return [
        (key, {"live": live, "path": old_path + below[len(path) :], "locale": locale})
        for key, below, live, locale in rows.values_list("pk", "path", "live", "locale")
    ]
