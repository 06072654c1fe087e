"""
The asker of a WebSocket as an HTTP request: same host, same scheme, same session, same user.

Everything that decides who somebody is works on that request, so a socket can never be somebody
else than the same browser's next ``GET``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest

from wagtail_live import conf

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

Scope = Mapping[str, Any]


def http_request(scope: Scope) -> ASGIRequest | None:
    """
    Return the handshake in ``scope`` as an HTTP request, or None when it must be refused.

    A browser sends ``Origin``; it must be the site's own or in ``WAGTAIL_LIVE_ALLOWED_ORIGINS``.
    A client that sends none is no browser: it is welcome, and its cookies do not count.
    """
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "ws"), "http")
    request = ASGIRequest({**scope, "type": "http", "method": "GET", "scheme": scheme}, BytesIO())
    origins = [value for name, value in scope["headers"] if name.lower() == b"origin"]
    try:
        own = f"{request.scheme}://{request.get_host()}".lower()
    except DisallowedHost:
        return None
    if not origins:
        request.COOKIES = {}
        return request
    if len(origins) > 1 or not _is_allowed(origins[0], own):
        return None
    return request


def identify(request: ASGIRequest) -> None:
    """Set ``session`` and ``user`` on ``request`` from its cookies. Blocking."""
    name, engine = conf.session_cookie()
    key = request.COOKIES.get(name)
    session = _ReadSession(import_module(engine).SessionStore(key).items() if key else ())
    request.session = cast("SessionBase", session)
    request.user = get_user(request) if session else AnonymousUser()


class _ReadSession(dict[str, Any]):
    """
    What a session holds, to read. ``get_user`` gives a session of an older ``SECRET_KEY`` a new
    key and deletes one that it refuses: a WebSocket has no way to hand the browser a new cookie,
    so that would sign people out.
    """

    def cycle_key(self) -> None:
        """Keep the key."""

    def flush(self) -> None:
        """Forget what was read; the stored session stays for a request to judge."""
        self.clear()


def _is_allowed(origin: bytes, own: str) -> bool:
    try:
        asked = origin.decode("ascii").lower()
    except UnicodeDecodeError:
        return False
    allowed = {str(one).lower() for one in conf.settings.allowed_origins}
    return asked != "null" and (asked == own or asked in allowed)
