"""The doors for ASGI: where the WebSocket and the event stream are mounted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.urls import path

from wagtail_live.sse import live_events
from wagtail_live.websocket import live_socket

Message = MutableMapping[str, Any]

websocket_urlpatterns = [
    path("websocket", live_socket),  # type: ignore[arg-type]  # an ASGI application, for Channels
]
http_urlpatterns = [
    path("live/events/", live_events),  # type: ignore[arg-type]  # the same
]


async def no_socket(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """
    Refuse a WebSocket whose address leads nowhere; the last route: ``re_path("", no_socket)``.

    Without it Channels raises, and each bad address is a traceback in the log.
    """
    await receive()
    await send({"type": "websocket.close"})
