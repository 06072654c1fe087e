"""``manage.py check``: the settings of this package."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from wagtail.api.v2.router import WagtailAPIRouter

from wagtail_live import conf
from wagtail_live.exceptions import LiveConfigurationError
from wagtail_live.policy import Policy

#: What each number may be, both ends included.
RANGES: dict[str, tuple[float, float]] = {
    "poll_seconds": (0.05, 60),
    "retention_hours": (1 / 60, 8784),
    "heartbeat_seconds": (1, 3600),
    "recheck_seconds": (1, 3600),
    "max_subscriptions": (1, 10_000),
    "auth_seconds": (1, 600),
    "max_connections_per_address": (1, 1_000_000),
    "max_connections_per_user": (1, 1_000_000),
    "trusted_proxies": (0, 10),
    "max_query_parameters": (1, 1000),
    "max_query_characters": (100, 65_536),
    "max_query_depth": (0, 50),
    "max_message_bytes": (1024, 16_777_216),
    "messages_per_second": (1, 10_000),
    "max_buffer_bytes": (65_536, 1_073_741_824),
    "max_batch": (1, 10_000),
    "database_threads": (1, 64),
}
TOKEN_CHARACTERS = 20


@register(Tags.compatibility)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Return what is wrong with the ``WAGTAIL_LIVE_*`` settings."""
    return [
        *_router(),
        *_policy(),
        *_closed(),
        *_origins(),
        *_numbers(),
        *_health_token(),
        *_sessions(),
        *_unknown(),
    ]


def _router() -> list[CheckMessage]:
    try:
        router = conf.api_router()
    except LiveConfigurationError as error:
        return [Error(str(error), id="wagtail_live.E001")]
    if not isinstance(router, WagtailAPIRouter):
        return [
            Error(
                f"WAGTAIL_LIVE_API_ROUTER names a {type(router).__name__}, not a WagtailAPIRouter.",
                hint="Name the object on which your project calls register_endpoint().",
                id="wagtail_live.E001",
            )
        ]
    return []


def _policy() -> list[CheckMessage]:
    try:
        places = conf.policy_paths()
        policies = conf.policies()
    except LiveConfigurationError as error:
        return [Error(str(error), id="wagtail_live.E002")]
    return [
        *(
            Error(
                f"WAGTAIL_LIVE_POLICY names {path!r}, which is no subclass of "
                "wagtail_live.policy.Policy.",
                id="wagtail_live.E002",
            )
            for path, policy in zip(places.values(), policies, strict=True)
            if not (isinstance(policy, type) and issubclass(policy, Policy))
        ),
        *_places(places),
    ]


def _places(places: Iterable[tuple[str, str]]) -> list[CheckMessage]:
    """Return what is wrong with where policies are to answer: one that never does is no policy."""
    try:
        collections = set(conf.api_router()._endpoints)
    except (AttributeError, LiveConfigurationError):
        return []  # said already
    return [
        *(
            Error(
                f"WAGTAIL_LIVE_POLICY names a policy for the collection {name!r}, which your API "
                "router does not have.",
                hint=f"It has {', '.join(sorted(collections))}.",
                id="wagtail_live.E002",
            )
            for kind, name in places
            if kind == "collections" and name not in collections
        ),
        *(
            Error(
                f"WAGTAIL_LIVE_POLICY names a policy for the site {name!r}, which is no host.",
                hint='Write it as in Settings > Sites, with or without the port: "example.com".',
                id="wagtail_live.E002",
            )
            for kind, name in places
            if kind == "sites" and not re.fullmatch(r"[^\s:/@]+(:\d+)?", name)
        ),
    ]


def _closed() -> list[CheckMessage]:
    closed = conf.settings.closed_collections
    try:
        collections = set(conf.api_router()._endpoints)
    except (AttributeError, LiveConfigurationError):
        return []  # said already
    unknown = [closed] if isinstance(closed, str) else sorted(set(closed) - collections)
    return [
        Error(
            f"WAGTAIL_LIVE_CLOSED_COLLECTIONS has {name!r}, which is no collection of your router.",
            hint=f"Give it a list with some of {', '.join(sorted(collections))}.",
            id="wagtail_live.E010",
        )
        for name in unknown
    ]


def _origins() -> list[CheckMessage]:
    origins = conf.settings.allowed_origins
    if isinstance(origins, str):
        return [
            Error(
                "WAGTAIL_LIVE_ALLOWED_ORIGINS is a text; it must be a list of origins.",
                hint=f"Write [{origins!r}].",
                id="wagtail_live.E003",
            )
        ]
    return [
        Error(
            f"WAGTAIL_LIVE_ALLOWED_ORIGINS holds {origin!r}, which is not an origin.",
            hint='Write scheme, host and port as a browser sends them: "https://www.example.com".',
            id="wagtail_live.E003",
        )
        for origin in origins
        if not _is_origin(origin)
    ]


def _is_origin(origin: object) -> bool:
    if not isinstance(origin, str):
        return False
    try:
        parts = urlsplit(origin)
        named_default = (parts.scheme, parts.port) in {("http", 80), ("https", 443)}
    except ValueError:
        return False
    exact = f"{parts.scheme}://{parts.netloc}".lower() == origin.lower()
    return (
        bool(parts.scheme and parts.hostname) and exact and not named_default and "@" not in origin
    )


def _numbers() -> list[CheckMessage]:
    return [
        Error(
            f"{conf.PREFIX}{name.upper()} is {value!r}.",
            hint=f"Give it {_kind(name)} between {low:g} and {high:g}.",
            id="wagtail_live.E005",
        )
        for name, (low, high) in RANGES.items()
        if not _is_number(name, value := getattr(conf.settings, name)) or not low <= value <= high
    ]


_DEFAULTS = {field.name: field.default for field in fields(conf.Settings)}


def _is_number(name: str, value: object) -> bool:
    whole = isinstance(_DEFAULTS[name], int)
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


def _kind(name: str) -> str:
    return "a whole number" if isinstance(_DEFAULTS[name], int) else "a number"


def _health_token() -> list[CheckMessage]:
    token = conf.settings.health_token
    if token == "" or (isinstance(token, str) and len(token) >= TOKEN_CHARACTERS):
        return []
    return [
        Error(
            "WAGTAIL_LIVE_HEALTH_TOKEN can be guessed: it is no text, or a short one.",
            hint=f"Give it at least {TOKEN_CHARACTERS} random characters, or leave it out.",
            id="wagtail_live.E006",
        )
    ]


def _sessions() -> list[CheckMessage]:
    _, engine = conf.session_cookie()
    try:
        store = import_module(engine).SessionStore
        if hasattr(store, "get_model_class"):
            store.get_model_class()
    except (ImportError, AttributeError, RuntimeError) as error:
        return [
            Error(
                f"Sessions cannot be read, so nobody with a session cookie can follow: {error}",
                hint="Name a working SESSION_ENGINE, and put its app into INSTALLED_APPS.",
                id="wagtail_live.E008",
            )
        ]
    return []


def _unknown() -> list[CheckMessage]:
    return [
        Warning(
            f"{name} is not a setting of wagtail_live.",
            hint="Look for a slip of the pen; the settings are in the reference.",
            id="wagtail_live.W001",
        )
        for name in conf.unknown_settings()
    ]
