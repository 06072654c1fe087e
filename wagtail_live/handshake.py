"""
The asker as an HTTP request, on every transport: same host, same scheme, same cookies; and whether
it is welcome.

Everything that decides who somebody is works on that request, so a socket or a stream can never be
somebody else than the same browser's next ``GET``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from wagtail_live import conf, limits

Scope = Mapping[str, Any]
#: What a page of another origin may send, beside what every page may.
ALLOWED_HEADERS = "Authorization, Cache-Control, Content-Type, Last-Event-ID"


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
        _own(request)
    except DisallowedHost:
        return False
    origin = request.headers.get("origin")
    if origin is not None:
        return is_allowed_origin(request, origin)
    if request.headers.get("sec-fetch-site") != "same-origin":
        request.COOKIES = {}
    return True


def address(request: HttpRequest) -> str | None:
    """Return where ``request`` comes from, for counting; None when that cannot be told."""
    forwarded = request.headers.get("x-forwarded-for")
    hops = [*(forwarded.split(",") if forwarded else ()), request.META.get("REMOTE_ADDR")]
    return limits.visitor([hop for hop in hops if hop], conf.settings.trusted_proxies)


def preflight_headers(methods: Iterable[str]) -> dict[str, str]:
    """Return the headers that tell a browser what a page of another origin may send."""
    return {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": "600",
    }


def cross_origin_headers(request: HttpRequest) -> dict[str, str]:
    """Return the headers by which the page that sent ``request`` may read its answer."""
    headers = {"Vary": "Origin"}
    if "origin" in request.headers:
        headers["Access-Control-Allow-Origin"] = request.headers["origin"]
        headers["Access-Control-Allow-Credentials"] = "true"
    return headers


def is_allowed_origin(request: HttpRequest, origin: str) -> bool:
    """Return whether pages of ``origin`` may ask the site that ``request`` is for."""
    asked = origin.lower()
    allowed = {str(one).lower() for one in conf.settings.allowed_origins}
    return asked.isascii() and asked != "null" and (asked == _own(request) or asked in allowed)


def is_same_origin(request: HttpRequest) -> bool:
    """Return whether ``request``, which is welcome, does not come from a page of elsewhere."""
    return request.headers.get("origin", _own(request)).lower() == _own(request)


def _own(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}".lower()
