"""``manage.py check``: what wakes other processes, and where a deployment mounts this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.handlers.asgi import ASGIHandler
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import import_string

from wagtail_live import conf
from wagtail_live.health import health
from wagtail_live.routing import http_urlpatterns, no_socket, websocket_urlpatterns

#: Most proxies cut a connection on which nothing was said for a minute.
PROXY_SECONDS = 60
LIST_LAYER = "channels_redis.core.RedisChannelLayer"
#: A chain of wrappers that is longer is not looked through.
DEPTH = 20


@register(Tags.compatibility)
def check_channel_layer(**kwargs: Any) -> list[CheckMessage]:
    """Return an error when the channel layer that the settings name cannot be made."""
    name = conf.settings.channel_layer
    try:
        if name in channel_layers.configs:
            import_string(channel_layers.configs[name]["BACKEND"])
            return []
        if name == conf.Settings.channel_layer:
            return []
        problem = f"CHANNEL_LAYERS has no {name!r}"
    except (ImportError, KeyError, TypeError) as error:
        problem = f"the backend of {name!r} cannot be imported ({error})"
    return [
        Error(
            f"The channel layer that should wake other processes is not there: {problem}.",
            hint="Set WAGTAIL_LIVE_CHANNEL_LAYER to a key of CHANNEL_LAYERS, and install its "
            'backend: pip install "wagtail-live-content[redis]".',
            id="wagtail_live.E007",
        )
    ]


@register(Tags.compatibility, deploy=True)
def check_bell(**kwargs: Any) -> list[CheckMessage]:
    """Return what keeps processes from waking each other."""
    backend = channel_layers.configs.get(conf.settings.channel_layer, {}).get("BACKEND", "")
    if backend in {"", f"{InMemoryChannelLayer.__module__}.{InMemoryChannelLayer.__qualname__}"}:
        return [
            Warning(
                "No channel layer reaches other processes: what one of them publishes the others "
                "learn by polling, up to WAGTAIL_LIVE_POLL_SECONDS later.",
                hint="Set CHANNEL_LAYERS to channels_redis.pubsub.RedisPubSubChannelLayer, or "
                "silence this where one process does everything.",
                id="wagtail_live.W003",
            )
        ]
    if backend == LIST_LAYER:
        return [
            Info(
                "The channel layer keeps its messages in lists of Redis. It works; the one with "
                "publish and subscribe does the same with less.",
                hint="Use channels_redis.pubsub.RedisPubSubChannelLayer.",
                id="wagtail_live.I001",
            )
        ]
    return []


@register(Tags.compatibility, deploy=True)
def check_asgi(**kwargs: Any) -> list[CheckMessage]:
    """Return what the project's ASGI application does not mount, as far as can be seen."""
    path = conf.asgi_application()
    if not path:
        return [
            Info(
                "ASGI_APPLICATION is not set, so nobody can check what it mounts.",
                hint='Set it to the dotted path of your application: "mysite.asgi.application".',
                id="wagtail_live.I002",
            )
        ]
    try:
        application = import_string(path)
    except Exception as error:  # it is the project's code that runs here
        return [
            Warning(
                f"ASGI_APPLICATION names {path!r}, which could not be imported: {error}",
                hint="Name the application that your ASGI server runs.",
                id="wagtail_live.W016",
            )
        ]
    return [
        Warning(
            f"{path} does not mount {what}: {effect}.",
            hint=f"Add wagtail_live.routing.{patterns} to the URLRouter of its "
            f'"{protocol}" protocol.',
            id=code,
        )
        for protocol, routes, patterns, what, effect, code in (
            (
                "websocket",
                websocket_urlpatterns,
                "websocket_urlpatterns",
                "the WebSocket",
                "no client can connect to it",
                "wagtail_live.W006",
            ),
            (
                "http",
                http_urlpatterns,
                "http_urlpatterns",
                "the event stream",
                "clients behind a proxy without WebSockets hear nothing",
                "wagtail_live.W007",
            ),
        )
        if _mounts(application, protocol, [route.callback for route in routes], DEPTH) is False
    ]


@register(Tags.urls, deploy=True)
def check_urls(**kwargs: Any) -> list[CheckMessage]:
    """Return a warning when the URLs of this package are not mounted."""
    if _has(get_resolver().url_patterns, health):
        return []
    return [
        Warning(
            "wagtail_live.urls is not mounted: there is no change feed, and no health.",
            hint='Add path("live/", include("wagtail_live.urls")) to your URLs, before Wagtail\'s.',
            id="wagtail_live.W008",
        )
    ]


@register(Tags.security, deploy=True)
def check_hosts(**kwargs: Any) -> list[CheckMessage]:
    """Return a warning when a page of any host may call itself the site's own."""
    if not conf.allows_any_host():
        return []
    return [
        Warning(
            'ALLOWED_HOSTS holds "*": the site\'s own origin is whatever host a request names, '
            "so a foreign name that leads to this server may use a visitor's session.",
            hint="List the hosts of the site.",
            id="wagtail_live.W013",
        )
    ]


@register(Tags.compatibility, deploy=True)
def check_heartbeat(**kwargs: Any) -> list[CheckMessage]:
    """Return a warning when proxies cut a connection before it says something."""
    seconds = conf.settings.heartbeat_seconds
    if not isinstance(seconds, int | float) or seconds < PROXY_SECONDS:
        return []
    return [
        Warning(
            f"WAGTAIL_LIVE_HEARTBEAT_SECONDS is {seconds:g}: most proxies cut a connection on "
            f"which nothing was said for {PROXY_SECONDS} seconds.",
            hint="Set it to 30, or silence this when your proxy's timeouts are longer.",
            id="wagtail_live.W014",
        )
    ]


def _mounts(
    application: object, protocol: str, wanted: list[Callable[..., Any]], depth: int
) -> bool | None:
    """Return whether ``application`` leads to one of ``wanted``; None when it cannot be seen."""
    if application in wanted:
        return True
    if depth == 0:
        return None
    if isinstance(application, ProtocolTypeRouter):
        inner = application.application_mapping.get(protocol)
        return inner is not None and _mounts(inner, protocol, wanted, depth - 1)
    if isinstance(application, URLRouter):
        found = {_mounts(one.callback, protocol, wanted, depth - 1) for one in application.routes}
        return True if True in found else None if None in found else False
    for name in ("inner", "application", "app"):
        if (wrapped := getattr(application, name, None)) is not None:
            return _mounts(wrapped, protocol, wanted, depth - 1)
    leads_elsewhere = (
        isinstance(application, ASGIHandler)
        or hasattr(application, "consumer_class")
        or application is no_socket
    )
    return False if leads_elsewhere else None


def _has(patterns: Iterable[URLPattern | URLResolver], view: Callable[..., Any]) -> bool:
    return any(
        _has(pattern.url_patterns, view)
        if isinstance(pattern, URLResolver)
        else pattern.callback is view
        for pattern in patterns
    )
