from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
from django.test import override_settings
from wagtail.api.v2.router import WagtailAPIRouter

from wagtail_live import conf
from wagtail_live.conf import Settings, settings
from wagtail_live.exceptions import LiveConfigurationError
from wagtail_live.policy import Policy

FIELDS = dataclasses.fields(Settings)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_what_a_site_sets_is_what_is_read(field: dataclasses.Field[object]) -> None:
    with override_settings(**{f"WAGTAIL_LIVE_{field.name.upper()}": "theirs"}):
        assert getattr(settings, field.name) == "theirs"
    assert getattr(settings, field.name) != "theirs"


def test_what_a_site_does_not_set_has_its_default() -> None:
    assert settings.poll_seconds == Settings.poll_seconds == 1.0
    assert settings.heartbeat_seconds == 30.0
    assert settings.max_subscriptions == 50
    assert settings.max_message_bytes == 64 * 1024
    assert settings.max_buffer_bytes == 1024 * 1024


def test_settings_are_read_anew_on_every_access() -> None:
    with override_settings(WAGTAIL_LIVE_POLL_SECONDS=2):
        assert settings.poll_seconds == 2
        with override_settings(WAGTAIL_LIVE_POLL_SECONDS=3):
            assert settings.poll_seconds == 3
        assert settings.poll_seconds == 2


def test_settings_cannot_be_set_in_passing() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.poll_seconds = 5  # type: ignore[misc]  # that is the test


def test_a_setting_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        settings.pol_seconds  # noqa: B018  # type: ignore[attr-defined]


def test_every_default_is_of_the_type_that_is_declared() -> None:
    for field in FIELDS:
        assert str(field.type).startswith(type(field.default).__name__)


def test_a_name_that_looks_like_ours_and_is_not_is_found() -> None:
    with override_settings(WAGTAIL_LIVE_POL_SECONDS=1, WAGTAIL_LIVE_A=1, WAGTAIL_LIV=1):
        assert conf.unknown_settings() == ["WAGTAIL_LIVE_A", "WAGTAIL_LIVE_POL_SECONDS"]


def test_the_projects_router_is_found() -> None:
    assert isinstance(conf.api_router(), WagtailAPIRouter)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "is not set"),
        (None, "is not set"),
        ("nowhere.router", "could not be imported"),
        ("example_project.api.nothing", "could not be imported"),
        ("router", "could not be imported"),
        (object(), "is a object. Give it a dotted path"),
    ],
)
def test_a_router_that_is_not_there_is_a_configuration_error(value: object, words: str) -> None:
    with (
        override_settings(WAGTAIL_LIVE_API_ROUTER=value),
        pytest.raises(LiveConfigurationError, match=words),
    ):
        conf.api_router()


def test_the_policy_is_ours_unless_a_site_names_its_own() -> None:
    assert conf.policy() is Policy
    with override_settings(WAGTAIL_LIVE_POLICY="wagtail_live.conf.Settings"):
        assert conf.policy() is Settings


@pytest.mark.parametrize("value", ["nowhere.Policy", "wagtail_live.policy.Nothing", Policy, None])
def test_a_policy_that_is_not_there_is_a_configuration_error(value: object) -> None:
    with (
        override_settings(WAGTAIL_LIVE_POLICY=value),
        pytest.raises(LiveConfigurationError, match="WAGTAIL_LIVE_POLICY"),
    ):
        conf.policy()


@pytest.mark.parametrize(
    ("collection", "hosts", "expected"),
    [
        ("pages", (), conf.Settings),
        ("members", ("a.test:80", "a.test"), LiveConfigurationError),
        ("pages", ("a.test:80", "a.test"), Policy),
        ("pages", ("b.test:80", "b.test"), conf.Settings),
    ],
)
def test_the_collections_policy_goes_before_the_sites_and_that_before_the_default(
    collection: str, hosts: tuple[str, ...], expected: Any
) -> None:
    named = {
        "default": "wagtail_live.conf.Settings",
        "sites": {"a.test": "wagtail_live.policy.Policy"},
        "collections": {"members": "wagtail_live.exceptions.LiveConfigurationError"},
    }
    with override_settings(WAGTAIL_LIVE_POLICY=named):
        assert conf.policy(collection, hosts) is expected
        assert len(conf.policies()) == 3


def test_a_mapping_without_a_default_has_ours() -> None:
    with override_settings(WAGTAIL_LIVE_POLICY={}):
        assert conf.policy("pages") is Policy


@pytest.mark.parametrize("value", [{"site": {}}, {"sites": "a.test"}, {"collections": {"a": 1}}])
def test_a_mapping_of_another_form_is_a_configuration_error(value: object) -> None:
    with (
        override_settings(WAGTAIL_LIVE_POLICY=value),
        pytest.raises(LiveConfigurationError, match="WAGTAIL_LIVE_POLICY"),
    ):
        conf.policies()


def test_cursors_are_sealed_with_the_newest_secret_and_opened_with_older_ones() -> None:
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old", "older"]):
        assert conf.secrets() == ["new", "old", "older"]


def test_the_session_is_the_one_of_the_site() -> None:
    with override_settings(SESSION_COOKIE_NAME="mine", SESSION_ENGINE="an.engine"):
        assert conf.session_cookie() == ("mine", "an.engine")


def test_settings_can_be_read_from_any_thread() -> None:
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(settings.poll_seconds))
    thread.start()
    thread.join()
    assert found == [1.0]
