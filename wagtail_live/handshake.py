"""
The asker as an HTTP request, on every transport: same host, same scheme, same session, same user.

Everything that decides who somebody is works on that request, so a socket or a stream can never be
somebody else than the same browser's next ``GET``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from wagtail_live import conf
from wagtail_live.policy import Policy

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

Scope = Mapping[str, Any]


def http_request(scope: Scope) -> ASGIRequest | None:
    """Return what ``scope`` asks as an HTTP request, or None when it must be refused."""
    said = scope.get("scheme") or "http"
    scheme = {"ws": "http", "wss": "https"}.get(said, said)
    try:
        request = ASGIRequest(
            {"method": "GET", **scope, "type": "http", "scheme": scheme}, BytesIO()
        )
    except UnicodeDecodeError:  # a query string that is none
        return None
    return request if is_welcome(request) else None


def is_welcome(request: HttpRequest) -> bool:
    """
    Return whether whoever sent ``request`` may ask, and take its cookies away if they do not count.

    A page of another origin sends ``Origin``; it must be the site's own or in
    ``WAGTAIL_LIVE_ALLOWED_ORIGINS``. Who sends none is welcome, but its cookies count only when the
    browser says that a page of this very origin asks (``Sec-Fetch-Site``).
    """
    try:
        own = f"{request.scheme}://{request.get_host()}".lower()
    except DisallowedHost:
        return False
    origin = request.headers.get("origin")
    if origin is not None:
        return _is_allowed(origin, own)
    if request.headers.get("sec-fetch-site") != "same-origin":
        request.COOKIES = {}
    return True


def cross_origin_headers(request: HttpRequest) -> dict[str, str]:
    """Return the headers by which the page that sent ``request`` may read its answer."""
    headers = {"Vary": "Origin"}
    if "origin" in request.headers:
        headers["Access-Control-Allow-Origin"] = request.headers["origin"]
        headers["Access-Control-Allow-Credentials"] = "true"
    return headers


def anonymity(request: HttpRequest) -> Hashable | None:
    """
    Return what all have in common who ask as ``request`` does and are nobody, or None for who is
    somebody, or may be for a policy of the site's own.
    """
    name, _ = conf.session_cookie()
    if name in request.COOKIES or conf.policy().audience is not Policy.audience:
        return None
    return request.get_host(), request.get_port()


def identify(request: HttpRequest) -> None:
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


def _is_allowed(origin: str, own: str) -> bool:
    asked = origin.lower()
    allowed = {str(one).lower() for one in conf.settings.allowed_origins}
    return asked.isascii() and asked != "null" and (asked == own or asked in allowed)
