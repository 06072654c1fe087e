from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import SessionMiddlewareStack
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core import checks as django_checks
from django.core.asgi import get_asgi_application
from django.db import connections
from django.test import override_settings
from django.urls import path, re_path

from wagtail_live import conf
from wagtail_live.checks import databases, deployment, installed
from wagtail_live.checks import settings as checks
from wagtail_live.policy import Policy
from wagtail_live.routing import http_urlpatterns, no_socket, websocket_urlpatterns


def ids(**settings: object) -> list[str]:
    with override_settings(**settings):
        return [str(problem.id) for problem in checks.check_settings()]


def told(found: Iterable[django_checks.CheckMessage]) -> list[str]:
    return [str(problem.id) for problem in found]


class NoPolicy:
    """Something that a setting may name by mistake."""


class OwnPolicy(Policy):
    """What a site's own policy looks like."""


no_router = object()


def test_the_example_site_has_nothing_to_complain_about() -> None:
    assert checks.check_settings() == []


def test_manage_check_runs_these_checks() -> None:
    with override_settings(WAGTAIL_LIVE_TYPO=1):
        found = {problem.id for problem in django_checks.run_checks()}
    assert "wagtail_live.W001" in found


@pytest.mark.parametrize(
    "path", ["", None, "nowhere.router", "example_project.api.nothing", no_router]
)
def test_a_router_that_cannot_be_found_is_an_error(path: object) -> None:
    assert ids(WAGTAIL_LIVE_API_ROUTER=path) == ["wagtail_live.E001"]


def test_a_router_that_is_none_is_an_error() -> None:
    assert ids(WAGTAIL_LIVE_API_ROUTER=f"{__name__}.no_router") == ["wagtail_live.E001"]


@pytest.mark.parametrize("path", ["", "nowhere.Policy", f"{__name__}.NoPolicy", f"{__name__}.ids"])
def test_a_policy_that_is_none_is_an_error(path: str) -> None:
    assert ids(WAGTAIL_LIVE_POLICY=path) == ["wagtail_live.E002"]


def test_a_policy_of_the_sites_own_is_fine() -> None:
    own = f"{__name__}.OwnPolicy"
    assert ids(WAGTAIL_LIVE_POLICY=own) == []
    by_place = {"sites": {"a.test": own, "b.test:81": own}, "collections": {"pages": own}}
    assert ids(WAGTAIL_LIVE_POLICY=by_place) == []


@pytest.mark.parametrize(
    "value",
    [
        {"default": f"{__name__}.NoPolicy"},
        {"collections": {"pages": f"{__name__}.NoPolicy"}},
        {"collections": {"nothing": f"{__name__}.OwnPolicy"}},
        {"sites": {"https://a.test": f"{__name__}.OwnPolicy"}},
        {"collection": {}},
    ],
)
def test_a_policy_that_would_never_answer_is_an_error(value: object) -> None:
    assert ids(WAGTAIL_LIVE_POLICY=value) == ["wagtail_live.E002"]


@pytest.mark.parametrize("value", ["authors", ["autors"]])
def test_a_closed_collection_that_does_not_exist_is_an_error(value: object) -> None:
    assert ids(WAGTAIL_LIVE_CLOSED_COLLECTIONS=value) == ["wagtail_live.E010"]
    assert ids(WAGTAIL_LIVE_CLOSED_COLLECTIONS=["authors"]) == []


@pytest.mark.parametrize(
    "origin",
    [
        "https://www.example.com",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]:3000",
        "HTTPS://Example.com",
        "capacitor://localhost",
    ],
)
def test_an_origin_is_written_as_a_browser_sends_it(origin: str) -> None:
    assert ids(WAGTAIL_LIVE_ALLOWED_ORIGINS=[origin]) == []


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "*",
        "null",
        "www.example.com",
        "//www.example.com",
        "localhost:3000",
        "https://www.example.com/",
        "https://www.example.com/path",
        "https://www.example.com?query",
        "https://www.example.com:443",
        "http://www.example.com:80",
        "https://user@www.example.com",
        "https://",
        "https://:3000",
        "http://[::1",
        "http://localhost:99999",
        "http://localhost:port",
        None,
        5,
    ],
)
def test_anything_else_is_no_origin(origin: object) -> None:
    assert ids(WAGTAIL_LIVE_ALLOWED_ORIGINS=[origin]) == ["wagtail_live.E003"]


def test_each_wrong_origin_is_named() -> None:
    with override_settings(WAGTAIL_LIVE_ALLOWED_ORIGINS=["*", "https://ok.example", "x"]):
        found = checks.check_settings()
    assert [("'*'" in one.msg, "'x'" in one.msg) for one in found] == [(True, False), (False, True)]


def test_origins_that_are_one_text_are_one_error_with_the_remedy() -> None:
    with override_settings(WAGTAIL_LIVE_ALLOWED_ORIGINS="http://localhost:3000"):
        [found] = checks.check_settings()
    assert found.id == "wagtail_live.E003"
    assert found.hint == "Write ['http://localhost:3000']."


def test_a_setting_that_there_is_not_is_a_warning_with_its_name() -> None:
    with override_settings(WAGTAIL_LIVE_POL_SECONDS=1):
        [found] = checks.check_settings()
    assert found.id == "wagtail_live.W001"
    assert "WAGTAIL_LIVE_POL_SECONDS" in found.msg


def test_several_mistakes_are_all_told_at_once() -> None:
    found = ids(
        WAGTAIL_LIVE_API_ROUTER="",
        WAGTAIL_LIVE_POLICY="",
        WAGTAIL_LIVE_ALLOWED_ORIGINS=["*"],
        WAGTAIL_LIVE_TYPO=1,
    )
    assert found == [f"wagtail_live.{code}" for code in ("E001", "E002", "E003", "W001")]


def test_the_other_package_with_our_import_name_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed.check_namesake() == []
    metadata = tmp_path / "wagtail_live-1.0.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: wagtail-live\nVersion: 1.0.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    [found] = installed.check_namesake()
    assert found.id == "wagtail_live.E004"
    assert found.hint is not None


# Numbers, tokens, sessions.

MANY: dict[str, object] = {
    "POLL_SECONDS": 0,
    "RETENTION_HOURS": 0.01,
    "HEARTBEAT_SECONDS": "30",
    "MAX_SUBSCRIPTIONS": 2.5,
    "MAX_MESSAGE_BYTES": 10,
    "MAX_BUFFER_BYTES": 1024,
    "MAX_BATCH": True,
    "DATABASE_THREADS": None,
}


@pytest.mark.parametrize("name", MANY)
def test_a_number_that_makes_no_sense_is_an_error(name: str) -> None:
    with override_settings(**{f"WAGTAIL_LIVE_{name}": MANY[name]}):
        [found] = checks.check_settings()
    assert found.id == "wagtail_live.E005"
    assert name in found.msg
    assert "between" in str(found.hint)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 61])
def test_neither_is_one_that_is_no_number_of_seconds(value: float) -> None:
    assert ids(WAGTAIL_LIVE_POLL_SECONDS=value) == ["wagtail_live.E005"]


@pytest.mark.parametrize("name", checks.RANGES)
def test_both_ends_of_a_range_are_in_it(name: str) -> None:
    for value in checks.RANGES[name]:
        assert ids(**{f"WAGTAIL_LIVE_{name.upper()}": value}) == []


def test_every_number_has_a_range_with_the_default_in_it() -> None:
    numbers = {
        field.name: field.default
        for field in fields(conf.Settings)
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    }
    assert numbers.keys() == checks.RANGES.keys()
    assert all(low <= numbers[name] <= high for name, (low, high) in checks.RANGES.items())


@pytest.mark.parametrize("token", ["short", None, 12345678901234567890])
def test_a_token_that_can_be_guessed_is_an_error(token: object) -> None:
    assert ids(WAGTAIL_LIVE_HEALTH_TOKEN=token) == ["wagtail_live.E006"]


def test_a_long_token_is_fine_and_so_is_none() -> None:
    assert ids(WAGTAIL_LIVE_HEALTH_TOKEN="x" * 20) == ids(WAGTAIL_LIVE_HEALTH_TOKEN="") == []


@pytest.mark.parametrize("engine", ["nowhere.sessions", "django.contrib.sessions.models"])
def test_sessions_that_cannot_be_read_are_an_error(engine: str) -> None:
    assert ids(SESSION_ENGINE=engine) == ["wagtail_live.E008"]


@pytest.mark.parametrize("engine", ["db", "cache", "cached_db", "file", "signed_cookies"])
def test_every_engine_of_djangos_can_be_read(engine: str) -> None:
    assert ids(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}") == []


# What is installed.


@pytest.mark.parametrize(
    ("version", "found"),
    [("4.1.2", True), ("4.2.1", True), ("4.2", True), ("4.2.2", False), ("5.0", False)],
)
def test_an_old_daphne_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, version: str, found: bool
) -> None:
    monkeypatch.setattr(installed, "_installed", lambda name: version)
    assert ("wagtail_live.W004" in told(installed.check_versions())) is found


def test_no_daphne_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "_installed", lambda name: None)
    assert told(installed.check_versions()) == []


@pytest.mark.parametrize(
    ("version", "found"), [((5, 2, 12), True), ((5, 2, 13), False), ((6, 1, 0), False)]
)
def test_a_django_with_a_known_hole_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], found: bool
) -> None:
    monkeypatch.setattr(installed.django, "VERSION", (*version, "final", 0))
    assert ("wagtail_live.W005" in told(installed.check_versions())) is found


# Databases.


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of the log's database, to be changed."""
    changed = {**connections["default"].settings_dict, "OPTIONS": {}, "CONN_MAX_AGE": 0}
    monkeypatch.setattr(connections["default"], "settings_dict", changed)
    return changed


GOOD_SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"transaction_mode": "immediate", "init_command": "PRAGMA Journal_Mode = wal"}, []),
        ({"transaction_mode": None}, ["W009"]),
        ({"transaction_mode": "DEFERRED"}, ["W009"]),
        ({"init_command": ""}, ["W010"]),
        ({"init_command": "PRAGMA journal_mode=DELETE"}, ["W010"]),
        ({"timeout": 1}, ["W011"]),
    ],
)
def test_sqlite_should_let_writers_wait_and_readers_go_on(
    database: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    expected: list[str],
) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    database.update(OPTIONS={**GOOD_SQLITE, **change}, NAME="no such file")
    assert told(databases.check_options()) == [f"wagtail_live.{code}" for code in expected]


def test_a_file_that_is_in_wal_mode_already_is_fine(
    database: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    name = tmp_path / "site.sqlite3"
    database.update(OPTIONS={"transaction_mode": "IMMEDIATE"}, NAME=name)
    with contextlib.closing(sqlite3.connect(name)) as made:
        made.execute("CREATE TABLE t (c)")
        assert told(databases.check_options()) == ["wagtail_live.W010"]
        made.execute("PRAGMA journal_mode=WAL")
    assert told(databases.check_options()) == []


def test_mysql_should_speak_all_of_unicode(
    database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    database["OPTIONS"] = {"charset": "utf8"}
    assert told(databases.check_options()) == ["wagtail_live.W015"]
    database["OPTIONS"] = {}
    assert told(databases.check_options()) == []


@pytest.mark.parametrize(("age", "found"), [(0, False), (60, True), (None, True)])
def test_connections_that_outlive_a_request_are_a_warning(
    database: dict[str, Any], age: int | None, found: bool
) -> None:
    database["CONN_MAX_AGE"] = age
    assert told(databases.check_persistence()) == (["wagtail_live.W002"] if found else [])


class LogElsewhere:
    """A database router that keeps the log away from the content."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "wagtail_live" else None


def test_a_log_in_another_database_than_pages_is_a_warning() -> None:
    assert told(databases.check_place()) == []
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.LogElsewhere"]):
        assert told(databases.check_place()) == ["wagtail_live.W012"]


def test_tables_without_transactions_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(databases.check_transactions(databases=None)) == []
    monkeypatch.setitem(connections["default"].features.__dict__, "supports_transactions", False)
    assert told(databases.check_transactions(databases=None)) == []
    assert told(databases.check_transactions(databases=["default"])) == ["wagtail_live.E009"]


# Layers, mounts, hosts.

PUBSUB = {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"CHANNEL_LAYERS": {}}, []),
        ({"CHANNEL_LAYERS": PUBSUB}, []),
        ({"CHANNEL_LAYERS": PUBSUB, "WAGTAIL_LIVE_CHANNEL_LAYER": "bell"}, ["E007"]),
        ({"CHANNEL_LAYERS": {"default": {"BACKEND": "nowhere.Layer"}}}, ["E007"]),
        ({"CHANNEL_LAYERS": {"default": {}}}, ["E007"]),
    ],
)
def test_a_channel_layer_that_is_not_there_is_an_error(
    settings: dict[str, object], expected: list[str]
) -> None:
    with override_settings(**settings):
        found = told(deployment.check_channel_layer())
    assert found == [f"wagtail_live.{code}" for code in expected]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({}, ["W003"]),
        ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, ["W003"]),
        ({"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}, ["I001"]),
        (PUBSUB, []),
    ],
)
def test_a_deployment_should_have_a_layer_that_wakes_others(
    layers: dict[str, object], expected: list[str]
) -> None:
    with override_settings(CHANNEL_LAYERS=layers):
        assert told(deployment.check_bell()) == [f"wagtail_live.{code}" for code in expected]


async def unknown_application(scope: Any, receive: Any, send: Any) -> None:
    """What nobody can look into."""


def wrapped(application: Any) -> Any:
    return SessionMiddlewareStack(AllowedHostsOriginValidator(application))


http = get_asgi_application()
socket = URLRouter(websocket_urlpatterns)
events = URLRouter([*http_urlpatterns, re_path("", http)])
APPLICATIONS = {
    "both": (ProtocolTypeRouter({"http": events, "websocket": socket}), []),
    "wrapped": (ProtocolTypeRouter({"http": events, "websocket": wrapped(socket)}), []),
    "nested": (
        ProtocolTypeRouter({"http": events, "websocket": URLRouter([path("ws/", socket)])}),
        [],
    ),
    "only_the_socket": (ProtocolTypeRouter({"http": http, "websocket": socket}), ["W007"]),
    "only_events": (ProtocolTypeRouter({"http": events}), ["W006"]),
    "other_routes": (
        ProtocolTypeRouter({"http": events, "websocket": URLRouter([path("x", http)])}),
        ["W006"],
    ),
    "no_sockets": (
        ProtocolTypeRouter({"http": events, "websocket": URLRouter([re_path("", no_socket)])}),
        ["W006"],
    ),
    "unknown": (ProtocolTypeRouter({"http": events, "websocket": unknown_application}), []),
    "opaque": (unknown_application, []),
    "django": (http, ["W006", "W007"]),
    "static_files": (ASGIStaticFilesHandler(http), ["W006", "W007"]),
}


def __getattr__(name: str) -> Any:
    """Give ASGI_APPLICATION something to name."""
    try:
        return APPLICATIONS[name.removeprefix("application_")][0]
    except KeyError:
        raise AttributeError(name) from None


@pytest.mark.parametrize("name", APPLICATIONS)
def test_what_the_application_does_not_mount_is_a_warning(name: str) -> None:
    with override_settings(ASGI_APPLICATION=f"{__name__}.application_{name}"):
        found = told(deployment.check_asgi())
    assert found == [f"wagtail_live.{code}" for code in APPLICATIONS[name][1]]


@pytest.mark.parametrize(
    ("path", "code"), [(None, "I002"), ("", "I002"), ("nowhere.application", "W016")]
)
def test_an_application_that_cannot_be_found_is_told(path: str | None, code: str) -> None:
    with override_settings(ASGI_APPLICATION=path):
        assert told(deployment.check_asgi()) == [f"wagtail_live.{code}"]


urlpatterns: list[Any] = []


def test_urls_that_are_not_mounted_are_a_warning() -> None:
    assert told(deployment.check_urls()) == []
    with override_settings(ROOT_URLCONF=__name__):
        assert told(deployment.check_urls()) == ["wagtail_live.W008"]


def test_any_host_is_a_warning() -> None:
    with override_settings(ALLOWED_HOSTS=["www.example.com"]):
        assert told(deployment.check_hosts()) == []
    with override_settings(ALLOWED_HOSTS=["*"]):
        assert told(deployment.check_hosts()) == ["wagtail_live.W013"]


@pytest.mark.parametrize(("seconds", "found"), [(30, False), (59, False), (60, True)])
def test_a_heartbeat_that_a_proxy_does_not_wait_for_is_a_warning(
    seconds: float, found: bool
) -> None:
    with override_settings(WAGTAIL_LIVE_HEARTBEAT_SECONDS=seconds):
        assert told(deployment.check_heartbeat()) == (["wagtail_live.W014"] if found else [])


def test_a_good_deployment_has_nothing_to_complain_about(
    database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    database["OPTIONS"] = GOOD_SQLITE
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    with override_settings(
        ALLOWED_HOSTS=["www.example.com"],
        CHANNEL_LAYERS=PUBSUB,
        WAGTAIL_LIVE_HEALTH_TOKEN="a long and random token",
    ):
        every = django_checks.run_checks(include_deployment_checks=True)
    assert [one for one in every if str(one.id).startswith("wagtail_live.")] == []


def test_a_bad_deployment_is_told_everything_at_once(database: dict[str, Any]) -> None:
    database["CONN_MAX_AGE"] = 60
    with override_settings(
        ALLOWED_HOSTS=["*"],
        CHANNEL_LAYERS={},
        ASGI_APPLICATION=f"{__name__}.application_django",
        ROOT_URLCONF=__name__,
        WAGTAIL_LIVE_HEARTBEAT_SECONDS=90,
    ):
        found = told(django_checks.run_checks(include_deployment_checks=True))
    assert {f"wagtail_live.W{n:03}" for n in (2, 3, 6, 7, 8, 13, 14)} <= set(found)
