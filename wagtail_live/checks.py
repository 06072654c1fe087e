"""``manage.py check``: every misconfiguration that we know, with the remedy."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from wagtail.api.v2.router import WagtailAPIRouter

from wagtail_live import conf
from wagtail_live.exceptions import LiveConfigurationError
from wagtail_live.policy import Policy


@register(Tags.compatibility)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Return what is wrong with the ``WAGTAIL_LIVE_*`` settings."""
    return [*_router(), *_policy(), *_origins(), *_unknown()]


@register(Tags.compatibility)
def check_namesake(**kwargs: Any) -> list[CheckMessage]:
    """Return an error when the other distribution with our import name is installed."""
    try:
        distribution("wagtail-live")
    except PackageNotFoundError:
        return []
    return [
        Error(
            "The distribution wagtail-live is installed; it has the same import name as "
            "wagtail-live-content, and the two overwrite each other's files.",
            hint="Uninstall both, then install wagtail-live-content again.",
            id="wagtail_live.E004",
        )
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
        policy = conf.policy()
    except LiveConfigurationError as error:
        return [Error(str(error), id="wagtail_live.E002")]
    if not (isinstance(policy, type) and issubclass(policy, Policy)):
        return [
            Error(
                "WAGTAIL_LIVE_POLICY does not name a subclass of wagtail_live.policy.Policy.",
                id="wagtail_live.E002",
            )
        ]
    return []


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


def _unknown() -> list[CheckMessage]:
    return [
        Warning(
            f"{name} is not a setting of wagtail_live.",
            hint="Look for a slip of the pen; the settings are in the reference.",
            id="wagtail_live.W001",
        )
        for name in conf.unknown_settings()
    ]
