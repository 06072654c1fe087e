"""
The settings, typed, read through on every access; the only reader of ``django.conf``.

Each field's default is the setting's default; ``WAGTAIL_LIVE_`` and the field's name in capitals
is the setting's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from wagtail_live.exceptions import LiveConfigurationError

if TYPE_CHECKING:
    from wagtail.api.v2.router import WagtailAPIRouter

PREFIX = "WAGTAIL_LIVE_"


@dataclass(frozen=True)
class Settings:
    """What a site may set, with what it gets when it does not."""

    api_router: str = ""
    policy: str | Mapping[str, Any] = "wagtail_live.policy.Policy"
    closed_collections: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    websocket_url: str = ""
    channel_layer: str = "default"
    poll_seconds: float = 1.0
    retention_hours: float = 24.0
    heartbeat_seconds: float = 30.0
    recheck_seconds: float = 60.0
    max_subscriptions: int = 50
    require_auth: bool = False
    auth_seconds: float = 10.0
    max_connections_per_address: int = 200
    max_connections_per_user: int = 100
    trusted_proxies: int = 0
    max_query_parameters: int = 30
    max_query_characters: int = 8192
    max_query_depth: int = 5
    max_message_bytes: int = 65_536
    messages_per_second: float = 20.0
    max_buffer_bytes: int = 1_048_576
    max_batch: int = 100
    database_threads: int = 4
    health_token: str = ""

    def __getattribute__(self, name: str) -> Any:
        default = super().__getattribute__(name)
        if name.startswith("_"):
            return default
        return getattr(django_settings, PREFIX + name.upper(), default)


settings = Settings()
NAMES = frozenset(PREFIX + field.name.upper() for field in fields(Settings))


def unknown_settings() -> list[str]:
    """Return the names in the project's settings that look like ours and are not."""
    return sorted(
        name for name in dir(django_settings) if name.startswith(PREFIX) and name not in NAMES
    )


def api_router() -> WagtailAPIRouter:
    """Return the project's API v2 router, or raise ``LiveConfigurationError``."""
    if not settings.api_router:
        raise LiveConfigurationError(
            "WAGTAIL_LIVE_API_ROUTER is not set. Give it the dotted path of your project's "
            'WagtailAPIRouter, for example "mysite.api.api_router".'
        )
    return cast("WagtailAPIRouter", _imported("api_router"))


def policy(collection: str = "", hosts: Iterable[str] = ()) -> Any:
    """
    Return the class of the policy for ``collection`` on the site that ``hosts`` are names of: the
    collection's own, else the site's, else the default; or raise ``LiveConfigurationError``.
    """
    paths = policy_paths()
    places = [("collections", collection), *(("sites", host) for host in hosts), DEFAULT_POLICY]
    return _import("policy", next(paths[place] for place in places if place in paths))


def policies() -> list[Any]:
    """Return the class of every policy that the setting names."""
    return [_import("policy", path) for path in policy_paths().values()]


#: The place of the policy that answers where no other is named.
DEFAULT_POLICY = ("default", "")


def policy_paths() -> dict[tuple[str, str], Any]:
    """
    Return what the setting names, by place: ``("collections", name)``, ``("sites", host)`` or
    ``DEFAULT_POLICY``. Raises ``LiveConfigurationError`` for a mapping of another form.
    """
    said = settings.policy
    if not isinstance(said, Mapping):
        return {DEFAULT_POLICY: said}
    unknown = [str(name) for name in said.keys() - {"default", "sites", "collections"}]
    if unknown:
        raise LiveConfigurationError(
            f"WAGTAIL_LIVE_POLICY has the keys {', '.join(sorted(unknown))}, which it does not "
            'know. Use "default", "sites" and "collections".'
        )
    paths: dict[tuple[str, str], Any] = {DEFAULT_POLICY: said.get("default", Settings.policy)}
    for kind in ("sites", "collections"):
        named = said.get(kind, {})
        if not isinstance(named, Mapping):
            raise LiveConfigurationError(
                f"WAGTAIL_LIVE_POLICY has {kind} that are no mapping. Give each name a dotted path."
            )
        paths |= {(kind, str(name)): path for name, path in named.items()}
    return paths


def _imported(name: str) -> Any:
    return _import(name, getattr(settings, name))


def _import(name: str, path: object) -> Any:
    setting = PREFIX + name.upper()
    if not isinstance(path, str):
        raise LiveConfigurationError(
            f"{setting} is a {type(path).__name__}. Give it a dotted path, as text."
        )
    try:
        return import_string(path)
    except ImportError as error:
        raise LiveConfigurationError(
            f"{setting} names {path!r}, which could not be imported: {error}."
        ) from error


def secrets() -> list[str | bytes]:
    """Return the secrets that cursors are sealed with: the newest first."""
    return [django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]


def page_label() -> str:
    """Return the label of the base page model in lower case (``wagtailcore.page``)."""
    return str(getattr(django_settings, "WAGTAIL_PAGE_MODEL", "wagtailcore.Page")).lower()


def session_cookie() -> tuple[str, str]:
    """Return the name of the session cookie and the module that reads it."""
    return django_settings.SESSION_COOKIE_NAME, django_settings.SESSION_ENGINE


def user_model() -> str:
    """Return the label of the model of users."""
    return str(django_settings.AUTH_USER_MODEL)


def token_touch_seconds() -> float | None:
    """Return how often it is noted that an API token was used; None for never."""
    return getattr(django_settings, "WAGTAILAPI_TOKEN_LAST_USED_INTERVAL", 60)


def asgi_application() -> str | None:
    """Return the dotted path of the project's ASGI application, if it says one."""
    return getattr(django_settings, "ASGI_APPLICATION", None)


def allows_any_host() -> bool:
    """Return whether a request may name any host."""
    return "*" in django_settings.ALLOWED_HOSTS
