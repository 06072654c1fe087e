"""
The rules of Settings > Live access: which of them fit an asker, and what they grant.

A process remembers them until the log says that they changed: who reads the log calls ``forget``.
Blocking, but for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from threading import Lock
from typing import Any

from django.db.models import Model, Q, QuerySet
from wagtail.models import Site, TranslatableMixin

from wagtail_live import conf
from wagtail_live.content import page_model
from wagtail_live.events import Audience
from wagtail_live.models import AccessRule

#: What a client needs of every object, whatever else a rule leaves out.
ALWAYS = frozenset({"id", "type", "detail_url"})

_BY_PRECEDENCE = (AccessRule.Who.TOKEN, AccessRule.Who.GROUP, AccessRule.Who.EVERYBODY)


@dataclass(frozen=True, slots=True)
class Rule:
    """An active rule. ``complete``: nothing that it was limited to has gone."""

    collection: str
    who: str
    group: int | None = None
    token: int | None = None
    events: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    page: int | None = None
    site: int | None = None
    locale: int | None = None
    drafts: bool = False
    writing: bool = False
    complete: bool = True

    def is_for(self, audience: Audience) -> bool:
        """Return whether the rule is for ``audience``; a group or token that has gone is nobody."""
        match self.who:
            case AccessRule.Who.EVERYBODY:
                return True
            case AccessRule.Who.GROUP:
                return self.group in audience.groups
            case AccessRule.Who.TOKEN:
                return self.token is not None and self.token == audience.token
            case _:
                return False


def read() -> tuple[Rule, ...]:
    """Return the active rules."""
    return tuple(
        Rule(
            collection=row.collection,
            who=row.who,
            group=row.group_id,
            token=row.token,
            events=frozenset(row.events),
            fields=frozenset(row.field_names),
            page=row.page_id,
            site=row.site_id,
            locale=row.locale_id,
            drafts=row.drafts,
            writing=row.writing,
            complete=all(getattr(row, f"{name}_id", None) is not None for name in row.limits),
        )
        for row in AccessRule.objects.filter(active=True)
    )


class _Memory:
    """What was read last, and how often it was forgotten: a reading begun before is not kept."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.rules: tuple[Rule, ...] | None = None
        self.forgotten = 0


_memory = _Memory()


def remembered() -> tuple[Rule, ...]:
    """Return the active rules, at least as new as when ``forget`` was last called."""
    with _memory.lock:
        known, forgotten = _memory.rules, _memory.forgotten
    if known is not None:
        return known
    found = read()
    with _memory.lock:
        if _memory.forgotten == forgotten:
            _memory.rules = found
    return found


def forget() -> None:
    """Forget the rules: they may have changed. Does not block."""
    with _memory.lock:
        _memory.rules = None
        _memory.forgotten += 1


def fitting(rules: Iterable[Rule], collection: str, audience: Audience) -> list[Rule] | None:
    """
    Return the rules that fit ``audience``, or None where Wagtail's alone hold.

    None fits who gets an empty list. The most specific count alone: those for a token before those
    for groups, those before everybody's. Superusers are not narrowed; their tokens are.
    """
    named = [rule for rule in rules if rule.collection == collection]
    if not named:
        return [] if collection in conf.settings.closed_collections else None
    if audience.superuser and audience.token is None:
        return None
    for who in _BY_PRECEDENCE:
        fit = [rule for rule in named if rule.who == who and rule.is_for(audience)]
        if fit:
            return fit
    return []


def granted(fit: Iterable[Rule], queryset: QuerySet[Any], audience: Audience) -> QuerySet[Any]:
    """Return the rows of ``queryset`` that one of the rules ``fit`` grants."""
    fit = list(fit)
    trees = _trees(fit)
    conditions = [
        condition
        for rule in fit
        if (condition := _condition(rule, queryset.model, audience, trees)) is not None
    ]
    if not conditions:
        return queryset.none()
    if not all(conditions):  # one is empty: everything
        return queryset
    return queryset.filter(reduce(or_, conditions))


def granted_then(
    fit: Iterable[Rule], model: type[Model], was: Mapping[str, Any], audience: Audience
) -> bool:
    """Return whether one of the rules ``fit`` grants an object of ``model`` that was ``was``."""
    fit = list(fit)
    trees = _trees(fit)
    return any(_granted_then(rule, model, was, audience, trees) for rule in fit)


def events(fit: Sequence[Rule]) -> frozenset[str] | None:
    """
    Return the events that the rules ``fit`` grant together; None for all. Who is granted nothing
    has nothing left to be told of but that it is gone.
    """
    if not fit or not all(rule.events for rule in fit):
        return None
    return frozenset().union(*(rule.events for rule in fit))


def fields(fit: Iterable[Rule]) -> frozenset[str] | None:
    """Return the fields that all the rules ``fit`` grant; None for all."""
    narrow = [rule.fields for rule in fit if rule.fields]
    return ALWAYS | frozenset.intersection(*narrow) if narrow else None


def have_places(fit: Iterable[Rule]) -> bool:
    """Return whether one of the rules ``fit`` is about a part of the tree."""
    return any(rule.page is not None or rule.site is not None for rule in fit)


def lost_places(fit: Iterable[Rule]) -> bool:
    """Return whether one of the rules ``fit`` is about a part of the tree that has gone."""
    fit = list(fit)
    trees = _trees(fit)
    return any(
        not rule.complete or (rule.page is not None and ("page", rule.page) not in trees)
        for rule in fit
    )


_Trees = dict[tuple[str, int], str]


def _trees(fit: Iterable[Rule]) -> _Trees:
    """Return where the pages and the sites of rules are, by kind and id."""
    pages = {rule.page for rule in fit if rule.page is not None}
    sites = {rule.site for rule in fit if rule.site is not None}
    found: _Trees = {}
    if pages:
        rows = page_model()._base_manager.filter(pk__in=pages).values_list("pk", "path")
        found |= {("page", key): path for key, path in rows}
    if sites:
        rows = Site.objects.filter(pk__in=sites).values_list("pk", "root_page__path")
        found |= {("site", key): path for key, path in rows}
    return found


def _condition(rule: Rule, model: type[Model], audience: Audience, trees: _Trees) -> Q | None:
    """Return the condition for the rows that ``rule`` grants, None for none; unknown is none."""
    if not rule.complete:
        return None
    condition = Q()
    is_page = issubclass(model, page_model())
    for kind, key in (("page", rule.page), ("site", rule.site)):
        if key is None:
            continue
        if is_page and (kind, key) in trees:
            condition &= Q(path__startswith=trees[kind, key])
        elif is_page or kind == "page" or audience.site != key:
            return None
    if rule.locale is not None:
        if not issubclass(model, TranslatableMixin):
            return None
        condition &= Q(locale=rule.locale)
    return condition


def _granted_then(
    rule: Rule, model: type[Model], was: Mapping[str, Any], audience: Audience, trees: _Trees
) -> bool:
    if _condition(rule, model, audience, trees) is None:
        return False
    if rule.locale is not None and was.get("locale") != rule.locale:
        return False
    places = [trees.get(("page", rule.page or 0), ""), trees.get(("site", rule.site or 0), "")]
    return "path" not in was or all(str(was["path"]).startswith(place) for place in places)
