"""
May this audience see it, and which fields? Unknown means no. Knows no socket.

Wagtail's own rules are the ceiling: what the API v2 endpoints show, less what
``get_view_restrictions()`` hides (the API's queryset alone shows aliases of restricted pages), less
what lies in restricted collections, less drafts. A site's policy, named by ``WAGTAIL_LIVE_POLICY``,
subclasses ``Policy`` and narrows further; so do the rules that administrators make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from operator import or_
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from wagtail.models import (
    BaseViewRestriction,
    Collection,
    CollectionViewRestriction,
    DraftStateMixin,
    PageViewRestriction,
    Site,
)

from wagtail_live import conf, permissions, rules, tickets
from wagtail_live.content import page_model
from wagtail_live.events import Audience
from wagtail_live.rules import Rule


class Policy:
    """
    The default policy: Wagtail's rules for readers. Every method may use the database; an instance
    serves one evaluation of one collection and may remember what it looked up.

    Subclass it and call ``super()``: a policy may only take away.
    """

    def __init__(
        self, collection: str = "", look_up: Callable[[], Iterable[Rule]] = rules.read
    ) -> None:
        """
        ``collection``: the name that is asked about; empty for what no endpoint shows. ``look_up``
        returns the rules of Settings > Live access.
        """
        self.collection = collection
        self._look_up = look_up

    def audience(self, request: HttpRequest) -> Audience:
        """
        Reduce the asker to what the answer depends on.

        ``request`` is the HTTP request or the WebSocket's handshake as one, with ``user``,
        ``session`` and ``auth`` set. A missing, anonymous or inactive user is the public. A policy
        that looks at more than the default puts it into ``extra`` (``dataclasses.replace``).
        """
        site = Site.find_for_request(request)
        user = getattr(request, "user", None) or AnonymousUser()
        session: Mapping[str, Any] = getattr(request, "session", None) or {}
        auth = getattr(request, "auth", None)
        known = bool(user.is_authenticated and user.is_active)
        return Audience(
            site=site.pk if site else None,
            authenticated=known,
            superuser=known and bool(user.is_superuser),
            groups=_numbers(user.groups.values_list("pk", flat=True)) if known else (),
            passed_pages=_numbers(
                session.get(PageViewRestriction.passed_view_restrictions_session_key, ())
            ),
            passed_collections=_numbers(
                session.get(CollectionViewRestriction.passed_view_restrictions_session_key, ())
            ),
            token=tickets.token_behind(auth),
            collections=tickets.collections_of(auth),
        )

    def follows(self, audience: Audience) -> bool:
        """Return whether ``audience`` may follow the collection at all."""
        return self._rules(audience) != []

    def visible(self, queryset: QuerySet[Any], audience: Audience) -> QuerySet[Any]:
        """Return the rows of ``queryset`` that ``audience`` may read, live ones only."""
        model = queryset.model
        fit = self._rules(audience)
        if fit is not None and self._shows(model):
            queryset = rules.granted(fit, queryset, audience)
        if issubclass(model, page_model()):
            hidden = self.hidden_trees(audience)
            live = queryset.filter(live=True)
            return live.exclude(_below(hidden)) if hidden else live
        if issubclass(model, DraftStateMixin):
            queryset = queryset.filter(live=True)
        if _in_collection(model):
            hidden_collections = self.hidden_collections(audience)
            if hidden_collections:
                queryset = queryset.exclude(collection__in=hidden_collections)
        return queryset

    def fields(self, model: type[Model], audience: Audience) -> frozenset[str] | None:
        """
        Return the names of the API fields of ``model`` that ``audience`` may read; None for all.

        A field that may not be read cannot be asked for, filtered or ordered by. A row of a list
        may be of a more special model than the list: what either hides is hidden there.
        """
        fit = self._rules(audience)
        if fit is None or not self._shows(model):
            return None
        return rules.fields(fit) if fit else frozenset()

    def events(self, audience: Audience) -> frozenset[str] | None:
        """Return the events (``create`` and so on) that ``audience`` is told; None for all."""
        return rules.events(self._rules(audience) or ())

    def can(
        self,
        action: str,
        subject: Model | type[Model],
        audience: Audience,
        user: AbstractBaseUser | AnonymousUser | None = None,
    ) -> bool:
        """
        Return whether ``audience`` may do ``action`` to ``subject``, an object or a model.

        ``view`` is to read what is live, ``draft`` what is not. Any other action is a permission of
        Wagtail's (``add``, ``change``, ``delete``, ``publish`` and so on) that ``user`` must have
        too: nobody writes without one. ``add`` is asked of the page that it is added below.
        """
        fit = self._rules(audience)
        if action == "view":
            return self.follows(audience) and self._contains(subject, self.visible, audience)
        if fit is not None:
            fit = [rule for rule in fit if (rule.drafts if action == "draft" else rule.writing)]
            grant = partial(rules.granted, fit)
            if not fit or not self._contains(subject, grant, audience):
                return False
        return user is not None and permissions.has(user, action, subject)

    def was_visible(self, model: type[Model], was: Mapping[str, Any], audience: Audience) -> bool:
        """
        Return whether ``audience`` could read an object that had the visibility ``was``.

        ``was`` is an entry's: ``live``, ``path``, ``collection`` as far as the model has them.
        Asked when a client resumes, with the rights of now.
        """
        if not was.get("live", True):
            return False
        fit = self._rules(audience)
        if fit is not None and not rules.granted_then(fit, model, was, audience):
            return False
        path = was.get("path")
        if path is not None:
            return not any(path.startswith(tree) for tree in self.hidden_trees(audience))
        collection = was.get("collection")
        return collection is None or collection not in self.hidden_collections(audience)

    def hidden_trees(self, audience: Audience) -> list[str]:
        """
        Return the tree paths of pages whose restriction ``audience`` does not pass.

        Follows ``Page.get_view_restrictions()``: an alias has the restrictions of its source.
        """
        remembered: dict[Audience, list[str]] = self.__dict__.setdefault("_hidden_trees", {})
        if audience not in remembered:
            restricted = self.restricted_pages(audience)
            remembered[audience] = self.trees_of(restricted) if restricted else []
        return remembered[audience]

    def restricted_pages(self, audience: Audience) -> set[int]:
        """Return the ids of the pages with a restriction that ``audience`` does not pass."""
        return _unaccepted(PageViewRestriction, "page_id", audience)

    def trees_of(self, pages: Iterable[int]) -> list[str]:
        """Return the tree paths of ``pages`` and of all their aliases."""
        return sorted(self.paths_of(pages).values())

    def paths_of(self, pages: Iterable[int]) -> dict[int, str]:
        """Return the tree paths of ``pages`` and of all their aliases, by id."""
        rows = page_model()._base_manager
        found = dict(rows.filter(pk__in=list(pages)).values_list("pk", "path"))
        frontier = set(found)
        while frontier:
            aliases = dict(rows.filter(alias_of__in=frontier).values_list("pk", "path"))
            frontier = aliases.keys() - found.keys()
            found |= aliases
        return found

    def accepted(self, was: Mapping[str, Any], audience: Audience) -> bool:
        """Return whether ``audience`` passed a page restriction that ``was`` so: an entry's."""
        passed = was.get("pk") in audience.passed_pages
        return _accepts(was.get("type", ""), passed, was.get("groups", ()), audience)

    def hidden_collections(self, audience: Audience) -> set[int]:
        """Return the ids of collections restricted for ``audience``, those below included."""
        remembered: dict[Audience, set[int]] = self.__dict__.setdefault("_hidden_collections", {})
        if audience not in remembered:
            restricted = self.restricted_collections(audience)
            remembered[audience] = self.collections_below(restricted) if restricted else set()
        return remembered[audience]

    def restricted_collections(self, audience: Audience) -> set[int]:
        """Return the ids of collections with a restriction that ``audience`` does not pass."""
        return _unaccepted(CollectionViewRestriction, "collection_id", audience)

    def collections_below(self, collections: Iterable[int]) -> set[int]:
        """Return the ids of ``collections`` and of all those below them."""
        roots = Collection.objects.filter(pk__in=list(collections)).values_list("path", flat=True)
        found = Collection.objects.filter(_below(roots)) if roots else Collection.objects.none()
        return set(found.values_list("pk", flat=True))

    def knows_places(self, audience: Audience, *, moved: bool, deleted: bool) -> bool:
        """
        Return whether ``audience`` could read then where it can now, though pages ``moved`` or were
        ``deleted`` since: a rule may be about the place of one of them.
        """
        fit = self._rules(audience) or ()
        return not (moved and rules.have_places(fit)) and not (deleted and rules.lost_places(fit))

    def _rules(self, audience: Audience) -> list[Rule] | None:
        remembered: dict[Audience, list[Rule] | None] = self.__dict__.setdefault("_fitting", {})
        if audience not in remembered:
            if "_all_rules" not in self.__dict__:
                self._all_rules = list(self._look_up())
            remembered[audience] = rules.fitting(self._all_rules, self.collection, audience)
        return remembered[audience]

    def _shows(self, model: type[Model]) -> bool:
        """Return whether ``model`` is what the collection is of, not what is nested in it."""
        endpoint = conf.api_router()._endpoints.get(self.collection)
        if endpoint is None:
            return False
        return issubclass(model, endpoint.model) or issubclass(endpoint.model, model)

    def _contains(
        self,
        subject: Model | type[Model],
        narrow: Callable[[QuerySet[Any], Audience], QuerySet[Any]],
        audience: Audience,
    ) -> bool:
        """Return whether ``subject`` is one of the rows that ``narrow`` leaves; a model is."""
        if isinstance(subject, type):
            return True
        rows = type(subject)._base_manager.filter(pk=subject.pk)
        return narrow(rows, audience).exists()


def _accepts(kind: str, passed: bool, groups: Iterable[int], audience: Audience) -> bool:
    """Return what ``BaseViewRestriction.accept_request`` would, for an audience; unknown is no."""
    match kind:
        case BaseViewRestriction.NONE:
            return True
        case BaseViewRestriction.PASSWORD:
            return passed
        case BaseViewRestriction.LOGIN:
            return audience.authenticated
        case BaseViewRestriction.GROUPS:
            return audience.superuser or not set(audience.groups).isdisjoint(groups)
        case _:
            return False


def _unaccepted(model: type[Any], target: str, audience: Audience) -> set[int]:
    """Return the ids of the pages or collections whose restrictions ``audience`` does not pass."""
    passed = audience.passed_pages if model is PageViewRestriction else audience.passed_collections
    # One statement: a restriction that goes while two are at it would be one without groups.
    rows = model.objects.values_list("pk", target, "restriction_type", "groups")
    groups: dict[tuple[int, int, str], set[int]] = {}
    for pk, of, kind, group in rows:
        groups.setdefault((pk, of, kind), set()).add(group)
    return {
        of
        for (pk, of, kind), allowed in groups.items()
        if not _accepts(kind, pk in passed, allowed, audience)
    }


def _below(paths: Iterable[str]) -> Q:
    return reduce(or_, (Q(path__startswith=path) for path in paths))


def _in_collection(model: type[Model]) -> bool:
    return any(
        field.name == "collection" and field.related_model is Collection
        for field in model._meta.concrete_fields
    )


def _numbers(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(sorted({value for value in values if type(value) is int}))
