"""
What of the log an audience can notice: what is about an object that it can read, or could.

A change of anything else is to it as if it had not happened, also where a page refers to what
changed. Blocking: call it through ``database.run``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from django.apps import apps
from django.db.models import Model
from wagtail.models import Site

from wagtail_live import impact
from wagtail_live.content import base_model, labels, page_labels, page_model
from wagtail_live.events import Audience, Entry, Kind
from wagtail_live.hub import LiveQuery
from wagtail_live.policy import Policy
from wagtail_live.representation import Representation


def unnoticed(
    representation: Representation,
    live_query: LiveQuery,
    entries: Sequence[Entry],
    keys: frozenset[Hashable],
) -> frozenset[Hashable]:
    """Return those of ``keys`` that ``entries`` touched only through what is hidden."""
    own = {entry.object_id for entry in entries if live_query.label in _labels(entry.model)}
    doubtful = frozenset(key for key in keys if str(key) not in own)
    if not doubtful:
        return frozenset()
    found = noticed(representation, entries)
    if len(found) == len(entries):
        return frozenset()
    position = entries[-1].position
    question = live_query.question(impact.touched(found).batch(position, position))
    if question is None:
        return doubtful
    if live_query.query.item is not None:
        return frozenset()
    return doubtful - question.keys


def noticed(representation: Representation, entries: Sequence[Entry]) -> list[Entry]:
    """Return those of ``entries`` that the audience can notice."""
    before = Before(representation, entries)
    readable = _readable(representation, entries)
    return [entry for entry in entries if _is_noticed(representation, entry, before, readable)]


def access_noticed(representation: Representation, entry: Entry) -> bool:
    """Return whether restrictions changed of what the audience can read, or could until then."""
    policy, audience = representation.policy, representation.asker
    was = entry.was or {}
    if not entry.object_id:
        return True
    key = int(entry.object_id)
    if entry.model not in page_labels():
        is_hidden = key in policy.hidden_collections(audience)
        others = policy.restricted_collections(audience) - {key}
        hidden_anyway = key in policy.collections_below(others)
        accepted = policy.accepted(was, replace(audience, passed_pages=audience.passed_collections))
        return not is_hidden or (accepted and not hidden_anyway)
    trees = policy.trees_of([key])
    hidden = tuple(policy.hidden_trees(audience))
    if not all(tree.startswith(hidden) for tree in trees):
        return True
    above = tuple(policy.trees_of(policy.restricted_pages(audience) - {key}))
    hidden_anyway = bool(trees) and all(tree.startswith(above) for tree in trees)
    return policy.accepted(was, audience) and not hidden_anyway


class Before:
    """What an audience could read when each of ``entries`` was written, by the rights of now."""

    def __init__(self, representation: Representation, entries: Iterable[Entry]) -> None:
        self._representation = representation
        policy, audience = representation.policy, representation.asker
        self._restricted: frozenset[Hashable] = frozenset()
        self._hidden: tuple[str, ...] = ()
        self._sites: tuple[str, ...] = ()
        if any(_is_of_pages(entry) for entry in entries):
            # Of the restricted pages, and of their aliases.
            self._restricted = frozenset(policy.paths_of(policy.restricted_pages(audience)))
            self._hidden = tuple(self._hidden_then(policy, audience, entries))
            self._sites = tuple(_sites_then(entries))

    def saw(self, label: str, key: Hashable, was: Any) -> bool:
        """Return whether an object could be read that was so visible."""
        if was is None or model_of(label) is None:
            return False
        if label in page_labels():
            path = was.get("path", "")
            if key in self._restricted or path.startswith(self._hidden):
                return False
            if not path.startswith(self._sites):
                return False
        return self._representation.was_visible(label, was)

    def _hidden_then(
        self, policy: Policy, audience: Audience, entries: Iterable[Entry]
    ) -> Iterator[str]:
        """Return where restricted pages lay that have moved, or are gone with what hid them."""
        for entry in entries:
            was = entry.was or {}
            if not _is_of_pages(entry):
                continue
            if entry.kind is Kind.SAVE and "path" in was:
                if int(entry.object_id) in self._restricted:
                    yield was["path"]
            elif entry.kind is Kind.DELETE:
                for gone in was.get("objects", ()):
                    restrictions = gone.get("restrictions", ())
                    if not all(policy.accepted(one, audience) for one in restrictions):
                        yield gone["path"]


def _sites_then(entries: Iterable[Entry]) -> Iterator[str]:
    """Return where sites begin, in each language, and where they began before that changed."""
    pages = page_model()._base_manager
    roots = pages.filter(pk__in=Site.objects.values("root_page"))
    translated = pages.filter(translation_key__in=roots.values("translation_key"))
    now = dict(translated.values_list("pk", "path"))
    yield from now.values()
    lengths = set(map(len, now.values()))
    for entry in entries:
        was = entry.was or {}
        if not _is_of_pages(entry):
            continue
        if entry.kind is Kind.SAVE and "path" in was and int(entry.object_id) in now:
            yield was["path"]
        elif entry.kind is Kind.DELETE:
            # Of which site it was the translation cannot be known any more.
            yield from (
                gone["path"] for gone in was.get("objects", ()) if len(gone["path"]) in lengths
            )


def _is_noticed(
    representation: Representation, entry: Entry, before: Before, readable: set[tuple[str, str]]
) -> bool:
    match entry.kind:
        case Kind.SAVE if entry.object_id:
            return (
                (entry.model, entry.object_id) in readable
                or before.saw(entry.model, _key(entry.model, entry.object_id), entry.was)
                or _carries_others(representation, entry)
            )
        case Kind.DELETE if entry.was is not None:
            gone = entry.was["objects"]
            return any(before.saw(one["model"], one["pk"], one) for one in gone)
        case Kind.ACCESS:
            return access_noticed(representation, entry)
    return True


def _readable(representation: Representation, entries: Iterable[Entry]) -> set[tuple[str, str]]:
    """Return (label, key) of what ``entries`` say was saved, and can be read now."""
    saved: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.kind is Kind.SAVE and entry.object_id:
            saved[entry.model].add(entry.object_id)
    found: set[tuple[str, str]] = set()
    for label, keys in saved.items():
        model = model_of(label)
        if model is not None:
            rows = model._base_manager.filter(pk__in=keys)
            there = representation.readable(rows).values_list("pk", flat=True)
            found.update((label, str(key)) for key in there)
    return found


def _carries_others(representation: Representation, entry: Entry) -> bool:
    """Return whether a page moved, with what lies below it, to or from where one may look."""
    was = entry.was or {}
    if "url_path" not in was:
        return False
    pages = page_model()._base_manager.filter(pk=entry.object_id)
    now = pages.values_list("path", "url_path").first()
    if now is None or now == (was["path"], was["url_path"]):
        return False
    hidden = tuple(representation.policy.hidden_trees(representation.asker))
    return not (now[0].startswith(hidden) and was["path"].startswith(hidden))


def _is_of_pages(entry: Entry) -> bool:
    return entry.model in page_labels()


def _key(label: str, text: str) -> Hashable:
    model = model_of(label)
    key: Hashable = text if model is None else base_model(model)._meta.pk.to_python(text)
    return key


def _labels(label: str) -> tuple[str, ...]:
    model = model_of(label)
    return labels(model) if model is not None else ()


def model_of(label: str) -> type[Model] | None:
    """Return the model of an entry, None when the project has it no more."""
    try:
        return apps.get_model(label)
    except LookupError:
        return None
