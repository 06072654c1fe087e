"""The doors for Django's URLs: ``path("live/", include("wagtail_live.urls"))``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from wagtail_live import protocol
from wagtail_live.changes import Changes
from wagtail_live.exceptions import NotMounted
from wagtail_live.health import health


@csrf_exempt
def events(request: HttpRequest) -> HttpResponse:
    """Say what is missing: where ``asgi.py`` routes the event stream, Django never gets this."""
    body = protocol.error(None, NotMounted())
    return HttpResponse(body, content_type="application/json", status=NotMounted.status)


app_name = "wagtail_live"
urlpatterns = [
    path("events/", events, name="events"),
    path("changes/", Changes.as_view(), name="changes"),
    path("health/", health, name="health"),
]
