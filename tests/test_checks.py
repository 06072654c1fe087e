from __future__ import annotations

import sys
from pathlib import Path

import pytest
from django.core import checks as django_checks
from django.test import override_settings

from wagtail_live import checks
from wagtail_live.policy import Policy


def ids(**settings: object) -> list[str]:
    with override_settings(**settings):
        return [str(problem.id) for problem in checks.check_settings()]


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
    assert ids(WAGTAIL_LIVE_POLICY=f"{__name__}.OwnPolicy") == []


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
    assert checks.check_namesake() == []
    metadata = tmp_path / "wagtail_live-1.0.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: wagtail-live\nVersion: 1.0.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    [found] = checks.check_namesake()
    assert found.id == "wagtail_live.E004"
    assert found.hint is not None
