"""The doors for ASGI: where the WebSocket and the event stream are mounted."""

from __future__ import annotations

from django.urls import path

from wagtail_live.sse import live_events
from wagtail_live.websocket import live_socket

websocket_urlpatterns = [
    path("websocket", live_socket),  # type: ignore[arg-type]  # an ASGI application, for Channels
]
http_urlpatterns = [
    path("live/events/", live_events),  # type: ignore[arg-type]  # the same
]
