"""Addresses and API of Wagtail's own test site."""

from typing import Any

from django.urls import include, path
from wagtail import urls as wagtail_urls
from wagtail.api.v2.router import WagtailAPIRouter
from wagtail.api.v2.views import PagesAPIViewSet
from wagtail.documents import urls as wagtaildocs_urls
from wagtail.documents.api.v2.views import DocumentsAPIViewSet
from wagtail.images.api.v2.views import ImagesAPIViewSet
from wagtail.test.testapp.models import Advert

from wagtail_live.endpoints import snippet_endpoint


class PagesViewSet(PagesAPIViewSet):
    """All but a relation that API v2 cannot give, for its accessor is not what queries call it."""

    @classmethod
    def get_body_fields(cls, model: type[Any]) -> list[Any]:
        return [field for field in super().get_body_fields(model) if field.name != "speakers"]


api_router = WagtailAPIRouter("wagtailapi")
api_router.register_endpoint("pages", PagesViewSet)
api_router.register_endpoint("images", ImagesAPIViewSet)
api_router.register_endpoint("documents", DocumentsAPIViewSet)
api_router.register_endpoint("adverts", snippet_endpoint(Advert))

urlpatterns = [
    path("api/v2/", api_router.urls),
    path("documents/", include(wagtaildocs_urls)),
    path("live/", include("wagtail_live.urls")),
    path("", include(wagtail_urls)),
]
