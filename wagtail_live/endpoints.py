"""A snippet model as an API v2 endpoint, so that REST and live come from the same line."""

from __future__ import annotations

from typing import ClassVar

from django.db.models import Model, QuerySet
from wagtail.api.v2.filters import FieldsFilter, LocaleFilter, OrderingFilter, SearchFilter
from wagtail.api.v2.views import BaseAPIViewSet
from wagtail.models import DraftStateMixin, TranslatableMixin


def snippet_endpoint(model: type[Model]) -> type[BaseAPIViewSet]:
    """
    Return an API v2 endpoint for ``model`` that shows only its live rows.

    The fields are the model's own ``api_fields``; all of them are in the listing. Register it
    like any other endpoint::

        api_router.register_endpoint("authors", snippet_endpoint(Author))

    A model without drafts is public as a whole: exposing it is the site's decision.
    """
    drafts = issubclass(model, DraftStateMixin)
    filters: list[type] = [FieldsFilter, OrderingFilter]
    known = BaseAPIViewSet.known_query_parameters
    if issubclass(model, TranslatableMixin):
        filters.append(LocaleFilter)
        known = known | {"locale"}

    class SnippetAPIViewSet(BaseAPIViewSet):  # type: ignore[misc]  # Wagtail has no types
        filter_backends: ClassVar[list[type]] = [*filters, SearchFilter]
        known_query_parameters = known

        def get_queryset(self) -> QuerySet[Model]:
            queryset: QuerySet[Model] = super().get_queryset()
            return queryset.filter(live=True) if drafts else queryset

        @classmethod
        def get_listing_default_fields(cls, model: type[Model]) -> list[str]:
            names: list[str] = cls.get_available_fields(model)
            return names

    SnippetAPIViewSet.model = model
    SnippetAPIViewSet.name = model._meta.model_name
    SnippetAPIViewSet.__name__ = f"{model.__name__}APIViewSet"
    return SnippetAPIViewSet
