"""
An object as the project's own API v2 gives it, for an audience.

The router's endpoint is run as it runs for ``GET``: its queryset, its filters, its pagination, its
serializer; only the asker is an audience instead of a person, and the policy narrows what it sees,
also of what an object refers to.
Blocking: call it through ``database.run``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.contrib.auth.models import AnonymousUser, Group
from django.core.exceptions import (
    FieldDoesNotExist,
    FieldError,
    ObjectDoesNotExist,
    PermissionDenied,
    TooManyFieldsSent,
    ValidationError,
)
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, QueryDict
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from wagtail.api.v2.utils import BadRequestError
from wagtail.api.v2.views import BaseAPIViewSet
from wagtail.coreutils import get_dummy_request
from wagtail.models import CollectionViewRestriction, PageViewRestriction, Site

from wagtail_live import conf, rules
from wagtail_live.content import kinds
from wagtail_live.events import Answer, Audience, Query, Snapshot
from wagtail_live.exceptions import Forbidden, InvalidQuery
from wagtail_live.policies import Policies, asker
from wagtail_live.policy import Policy
from wagtail_live.references import References, shown
from wagtail_live.rules import Rule

logger = logging.getLogger("wagtail_live")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wagtail.api.v2.router import WagtailAPIRouter

#: With more keys than this, comparing everything is cheaper than asking for each.
KEYS_LIMIT = 500
#: The endpoint's parameters that have no meaning for something that is followed.
UNFOLLOWABLE = ("search", "search_operator", "format", "_")
#: The endpoint's parameters that ask about a field without naming it.
ASKS_ABOUT = {
    "type": "type",
    "locale": "locale",
    "child_of": "parent",
    "descendant_of": "parent",
    "ancestor_of": "parent",
}


def parse(collection: str, query: Mapping[str, Any] | str, item: int | str | None) -> Query:
    """
    Return the canonical query of a ``subscribe``.

    Raises ``Forbidden`` for an item that cannot be one, ``InvalidQuery`` for parameters that can
    not be followed, or are too much.
    """
    pairs = _pairs(query)
    _hold_to_limits(pairs)
    for name, _ in pairs:
        if name in UNFOLLOWABLE:
            raise InvalidQuery(f"{name!r} cannot be followed. Use filters instead.")
    if item is not None:
        try:
            item = int(item)
        except ValueError:
            raise Forbidden from None
    return Query(collection, tuple(sorted(pairs)), item)


def _pairs(query: Mapping[str, Any] | str) -> list[tuple[str, str]]:
    if not isinstance(query, str):
        return [(name, _text(name, value)) for name, value in query.items() if value is not None]
    try:
        found = QueryDict(query.removeprefix("?"))
    except TooManyFieldsSent:
        raise InvalidQuery("The query has too many parameters.") from None
    return [(name, str(value)) for name, value in found.items()]


def _hold_to_limits(pairs: list[tuple[str, str]]) -> None:
    """Refuse what costs more to read than anybody needs; the endpoint's own parser recurses."""
    limits = conf.settings
    if len(pairs) > limits.max_query_parameters:
        raise InvalidQuery(
            f"The query has more than {limits.max_query_parameters} parameters. Ask for less."
        )
    if sum(len(name) + len(value) for name, value in pairs) > limits.max_query_characters:
        raise InvalidQuery(
            f"The query is longer than {limits.max_query_characters} characters. Ask for less."
        )
    deepest = depth = 0
    for character in dict(pairs).get("fields", ""):
        depth += {"(": 1, ")": -1}.get(character, 0)
        deepest = max(deepest, depth)
    if deepest > limits.max_query_depth:
        raise InvalidQuery(
            f"The fields are nested more than {limits.max_query_depth} deep. Ask for less."
        )


class Representation:
    """What one query shows one audience, now."""

    def __init__(
        self,
        query: Query,
        audience: Audience,
        look_up: Callable[[], Iterable[Rule]] = rules.read,
    ) -> None:
        """``look_up`` returns the rules of Settings > Live access."""
        self.query = query
        self.audience = audience
        self._look_up = look_up
        self.router = conf.api_router()
        endpoint = self.router._endpoints.get(query.collection)
        opened = audience.collections
        if endpoint is None or (opened is not None and query.collection not in opened):
            raise Forbidden
        self.endpoint: type[BaseAPIViewSet] = endpoint

    @property
    def policy(self) -> Policy:
        """A policy for one evaluation."""
        return Policies(self.audience, self._look_up).of(self.query.collection)[0]

    @property
    def asker(self) -> Audience:
        """Who the audience is to that policy."""
        return asker(self.audience, self.query.collection)

    def label(self) -> str:
        """Return the label of the model whose changes matter to the query."""
        with _query_errors():
            return str(self._view().get_queryset().model._meta.label_lower)

    def snapshot(self) -> Snapshot:
        """
        Return the base: for a list its first page and all its keys, for an item the item.

        Raises ``InvalidQuery`` or ``Forbidden``; an item that is not there or not for the audience
        is ``Forbidden`` too.
        """
        if self.query.item is not None:
            row, anchors = self._item()
            if row is None:
                raise Forbidden
            return Snapshot(
                frozenset({self.query.item}), ((self.query.item, row),), anchors=anchors
            )
        with _query_errors():
            view = self._view()
            queryset = self._filtered(view)
            held = frozenset(queryset.order_by().values_list("pk", flat=True))
            page = list(view.paginate_queryset(queryset))
        rows = self._rows(view, page)
        return Snapshot(held | rows.keys(), tuple(rows.items()))

    def answer(
        self,
        keys: frozenset[Hashable],
        *,
        compare: bool,
        known: frozenset[Hashable],
        limit: int,
    ) -> Answer:
        """
        Return which of ``keys`` the query holds now, as rows, at most ``limit``.

        With ``compare`` all keys it holds are looked up, and those that are not ``known`` come as
        rows too. A query that has become impossible (the page it names is gone) holds nothing.
        """
        if self.query.item is not None:
            row, anchors = self._item()
            rows: dict[Hashable, str] = {self.query.item: row} if row is not None else {}
            return Answer(
                frozenset({self.query.item}), rows, anchors=anchors, events=self._events()
            )
        try:
            # It was possible once: anything but a refusal is trouble, to be tried again.
            with _refusals():
                view = self._view()
                queryset = self._filtered(view)
        except (InvalidQuery, Forbidden) as refused:
            logger.info("a live query has become impossible, it holds nothing: %s", refused)
            return Answer(keys, {}, held=frozenset(), events=self._events())
        held = None
        if compare or len(keys) > KEYS_LIMIT:
            held = frozenset(queryset.order_by().values_list("pk", flat=True))
            keys = (held - known) | (keys & held)
            if len(keys) > limit:
                return Answer(keys, {}, held=held, too_many=True)
        rows = self._rows(view, queryset.filter(pk__in=keys)[: limit + 1]) if keys else {}
        if len(rows) > limit:
            return Answer(keys, {}, held=held, too_many=True)
        return Answer(keys, rows, held=held, events=self._events())

    def was_visible(self, label: str, was: Mapping[str, Any]) -> bool:
        """Return whether the audience could read an object of the model that was so visible."""
        return self.policy.was_visible(apps.get_model(label), was, self.asker)

    def readable(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of ``queryset``, of any model, that the audience may read."""
        policies = Policies(self.audience, self._look_up)
        return _Narrowed(self.router, self.query.collection, policies).readable(queryset)

    def _events(self) -> frozenset[str] | None:
        return self.policy.events(self.asker)

    def _view(self, action: str = "listing_view") -> BaseAPIViewSet:
        site = Site.objects.filter(pk=self.asker.site).first()
        http_request: Any = _http_request(self.query, self.asker, site)
        policies = Policies(self.audience, self._look_up)
        if not policies.of(self.query.collection)[0].follows(self.asker):
            raise Forbidden
        narrowed = _Narrowed(self.router, self.query.collection, policies)
        http_request.wagtailapi_router = narrowed
        view = narrowed.narrow(self.endpoint, self.query.collection)()
        view.request = Request(http_request)
        view.request.user = http_request.user
        view.action = action
        view.format_kwarg = None
        view.args = ()
        view.kwargs = {} if self.query.item is None else {"pk": self.query.item}
        view.check_permissions(view.request)
        return view

    def _filtered(self, view: BaseAPIViewSet) -> QuerySet[Any]:
        queryset = view.get_queryset()
        view.check_query_parameters(queryset)
        filtered: QuerySet[Any] = view.filter_queryset(queryset)
        return filtered

    def _item(self) -> tuple[str | None, frozenset[Hashable]]:
        with _query_errors():
            view = self._view("detail_view")
            try:
                instance = view.get_object()
            except (Http404, OverflowError):
                return None, frozenset()
            serializer = view.get_serializer(instance)
        data = serializer.data
        return _json(data), _anchors(data)

    def _rows(self, view: BaseAPIViewSet, objects: Iterable[Any]) -> dict[Hashable, str]:
        instances = list(objects)
        with _query_errors():
            serializer = view.get_serializer(instances, many=True)
        serializer.child.narrow(instances)
        data = serializer.data
        return {instance.pk: _json(row) for instance, row in zip(instances, data, strict=True)}


class _Narrowed:
    """
    The project's router; every endpoint narrowed to what the policy lets the audience see.

    What is nested in a row is narrowed by the policies of both: the collection that is followed and
    the one that the nested object is of.
    """

    def __init__(self, router: WagtailAPIRouter, collection: str, policies: Policies) -> None:
        self._router = router
        self._collection = collection
        self._policies = policies
        self._fields: dict[tuple[str, type[Model]], frozenset[str] | None] = {}
        self._references = References(self.readable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)

    def get_model_endpoint(self, model: type[Model]) -> tuple[str, type[BaseAPIViewSet]]:
        """Return a narrowed endpoint; a nested model that has none gets the API's own default."""
        name, endpoint = self._endpoint(model)
        return name, self.narrow(endpoint, name)

    def narrow(self, endpoint: type[BaseAPIViewSet], collection: str = "") -> type[BaseAPIViewSet]:
        policy, audience = self._policies.of(collection)
        references = self._references
        base: Any = endpoint.base_serializer_class

        class Serializer(base):  # type: ignore[misc]  # the base is the project's
            def narrow(self, instances: Iterable[Any]) -> None:
                references.narrow(instances, shown(self))

            def to_representation(self, instance: Any) -> Any:
                self.narrow([instance])
                return super().to_representation(instance)

        def allowed(model: type[Model], fields: list[Any]) -> list[Any]:
            names = self._readable(collection, model)
            return fields if names is None else [field for field in fields if field.name in names]

        def check_order(model: type[Model], order: str) -> None:
            for name in order.split(","):
                if not self._tells_order(collection, model, name.lstrip("-")):
                    raise BadRequestError(f"cannot order by '{name}' (unknown field)")

        class Narrowed(endpoint):  # type: ignore[misc]  # the base is the project's
            base_serializer_class = Serializer

            def get_queryset(self) -> QuerySet[Any]:
                # Asked for again and again by the endpoint, and the same for one request.
                if not hasattr(self, "_live_queryset"):
                    self._live_queryset = policy.visible(super().get_queryset(), audience)
                found: QuerySet[Any] = self._live_queryset.all()
                return found

            def check_query_parameters(self, queryset: QuerySet[Any]) -> None:
                names = {
                    field.name
                    for field in [
                        *super().get_body_fields(queryset.model),
                        *super().get_meta_fields(queryset.model),
                    ]
                }
                hidden = names - set(self.get_available_fields(queryset.model))
                self.known_query_parameters = frozenset(
                    name
                    for name in super().known_query_parameters
                    if ASKS_ABOUT.get(name) not in hidden
                )
                super().check_query_parameters(queryset)
                check_order(queryset.model, self.request.GET.get("order", ""))

            @classmethod
            def get_body_fields(cls, model: type[Model]) -> list[Any]:
                return allowed(model, super().get_body_fields(model))

            @classmethod
            def get_meta_fields(cls, model: type[Model]) -> list[Any]:
                return allowed(model, super().get_meta_fields(model))

            @classmethod
            def get_detail_default_fields(cls, model: type[Model]) -> list[str]:
                # Of all fields; those that are not allowed fall away with the serializer's.
                return list(endpoint.get_detail_default_fields(model))

        if hasattr(endpoint, "get_base_queryset"):

            def get_base_queryset(self: Any) -> QuerySet[Any]:
                if not hasattr(self, "_live_base_queryset"):
                    original: Any = super(Narrowed, self)
                    found = original.get_base_queryset()
                    self._live_base_queryset = policy.visible(found, audience)
                remembered: QuerySet[Any] = self._live_base_queryset
                return remembered.all()

            Narrowed.get_base_queryset = get_base_queryset
        return Narrowed

    def readable(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of ``queryset``, of any model, that the audience may read."""
        asked = {}
        for collection in (self._collection, self._endpoint(queryset.model)[0]):
            policy, audience = self._policies.of(collection)
            asked[type(policy), audience] = policy
        for (_, audience), policy in asked.items():
            queryset = policy.visible(queryset, audience)
        return queryset

    def _endpoint(self, model: type[Model]) -> tuple[str, type[BaseAPIViewSet]]:
        return self._router.get_model_endpoint(model) or ("", BaseAPIViewSet)

    def _readable(self, collection: str, model: type[Model]) -> frozenset[str] | None:
        """Return the names of the fields that every policy and kind allows; None for all."""
        if (collection, model) not in self._fields:
            said = [
                policy.fields(kind, audience)
                for policy, audience in map(self._policies.of, {collection, self._collection})
                for kind in kinds(model)
            ]
            narrow = [names for names in said if names is not None]
            self._fields[collection, model] = frozenset.intersection(*narrow) if narrow else None
        return self._fields[collection, model]

    def _tells_order(self, collection: str, model: type[Model], name: str) -> bool:
        """
        Return whether the order by a field says only what may be read: that by a relation is the
        order of the objects that it points at.
        """
        try:
            field: Any = model._meta.get_field(name)
        except FieldDoesNotExist:
            return True  # for the endpoint to refuse
        related = field.related_model
        if related is None or name != field.name:
            return True  # a value of its own, such as the key that it points at
        names = self._readable(self._endpoint(related)[0], related)
        by = {one.lstrip("-") for one in related._meta.ordering if isinstance(one, str)}
        return names is None or (by <= names and len(by) == len(related._meta.ordering))


class _Asker(AnonymousUser):
    """An audience where Wagtail and the serializers expect a user."""

    def __init__(self, audience: Audience) -> None:
        super().__init__()
        self.is_superuser = audience.superuser  # type: ignore[assignment]  # perhaps not anonymous
        self.is_active = audience.authenticated  # type: ignore[assignment]  # perhaps not anonymous
        self._audience = audience

    @property
    def groups(self) -> QuerySet[Group]:  # type: ignore[override]  # perhaps not anonymous
        return Group.objects.filter(pk__in=self._audience.groups)

    @property
    def is_anonymous(self) -> bool:  # type: ignore[override]  # perhaps not anonymous
        return not self._audience.authenticated

    @property
    def is_authenticated(self) -> bool:  # type: ignore[override]  # perhaps not anonymous
        return self._audience.authenticated


def _http_request(query: Query, audience: Audience, site: Site | None) -> HttpRequest:
    request: Any = get_dummy_request(site=site)
    parameters = QueryDict(mutable=True)
    parameters.update(dict(query.parameters))
    request.GET = parameters
    request.user = _Asker(audience)
    request.session = {
        PageViewRestriction.passed_view_restrictions_session_key: list(audience.passed_pages),
        CollectionViewRestriction.passed_view_restrictions_session_key: list(
            audience.passed_collections
        ),
    }
    request._wagtail_site = site
    return cast("HttpRequest", request)


@contextmanager
def _query_errors() -> Iterator[None]:
    """Say what the API endpoint would say about a query, as our errors."""
    try:
        with _refusals():
            yield
    except (ValidationError, FieldError, DataError, OverflowError, TypeError, ValueError):
        # What the endpoint itself does not expect: a filter's value that its column cannot hold.
        raise InvalidQuery from None


@contextmanager
def _refusals() -> Iterator[None]:
    """Say what the endpoint refuses outright, as our errors; let everything else through."""
    try:
        yield
    except BadRequestError as error:
        raise InvalidQuery(_sentence(str(error))) from None
    except (PermissionDenied, APIException):
        raise Forbidden from None
    except (Http404, ObjectDoesNotExist):
        raise InvalidQuery from None


def _sentence(words: str) -> str:
    return f"The API refuses this query: {words.rstrip('.')}."


def _text(name: str, value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case list() if not any(isinstance(part, list) for part in value):
            return ",".join(_text(name, part) for part in value)
        case _:
            raise InvalidQuery(
                f"The parameter {name!r} must be a text, a number, a boolean or a list of those."
            )


def _json(data: Any) -> str:
    return str(JSONRenderer().render(data), "utf-8")


def _anchors(data: Mapping[str, Any]) -> frozenset[Hashable]:
    meta: Mapping[str, Any] = data.get("meta") or {}
    related = [meta.get(name) for name in ("parent", "alias_of")]
    return frozenset(page["id"] for page in related if page and "id" in page)
