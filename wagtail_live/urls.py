"""The doors for Django's URLs: ``path("live/", include("wagtail_live.urls"))``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from wagtail_live import protocol
from wagtail_live.changes import Changes
from wagtail_live.exceptions import NotMounted
from wagtail_live.health import health
from wagtail_live.ticket_view import Tickets

View = Callable[..., Any]


@csrf_exempt
def events(request: HttpRequest) -> HttpResponse:
    """Say what is missing: where ``asgi.py`` routes the event stream, Django never gets this."""
    body = protocol.error(None, NotMounted())
    return HttpResponse(body, content_type="application/json", status=NotMounted.status)


def _outside_transactions(view: View) -> View:
    """
    Return ``view``, which ATOMIC_REQUESTS leaves alone from now on.

    With it Django would ask the database before it asks the view, keep a transaction open while
    somebody waits, and refuse a view that is asynchronous.
    """
    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    return view


app_name = "wagtail_live"
urlpatterns = [
    path("events/", _outside_transactions(events), name="events"),
    path("changes/", _outside_transactions(Changes.as_view()), name="changes"),
    path("ticket/", _outside_transactions(Tickets.as_view()), name="ticket"),
    path("health/", _outside_transactions(health), name="health"),
]
