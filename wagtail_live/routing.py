"""The door for ASGI: where the WebSocket is mounted."""

from __future__ import annotations

from django.urls import path

from wagtail_live.websocket import live_socket

websocket_urlpatterns = [
    path("websocket", live_socket),  # type: ignore[arg-type]  # an ASGI application, for Channels
]
