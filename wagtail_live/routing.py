"""The door for ASGI: where the WebSocket is mounted."""

from __future__ import annotations

websocket_urlpatterns: list = []
