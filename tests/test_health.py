"""``GET /live/health/``: one word for everybody, the figures for those who may see them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from wagtail_live import history, status
from wagtail_live.diagnosis import Problem, Report

pytestmark = pytest.mark.usefixtures("committed")

TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - for these tests


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_last", None)
    monkeypatch.setattr(status, "LOOK_SECONDS", 60.0)


def get(client: Client | None = None, **headers: str) -> HttpResponse:
    return (client or Client()).get(reverse("wagtail_live:health"), headers=headers)


def test_everybody_is_told_that_it_is_fine_and_no_more() -> None:
    answer = get()
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "problems": []}
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize(
    ("problem", "word", "code"),
    [(Problem.NUMBERING_STALLED, "down", 503), (Problem.BELL_SILENT, "degraded", 200)],
)
def test_a_problem_is_told_by_its_code(
    monkeypatch: pytest.MonkeyPatch, problem: Problem, word: str, code: int
) -> None:
    monkeypatch.setattr(status, "look", lambda: Report((problem,), history.state()))
    answer = get()
    assert answer.json() == {"status": word, "problems": [problem.name]}
    assert answer.status_code == code


def test_who_has_the_token_sees_the_figures(settings: Any) -> None:
    settings.WAGTAIL_LIVE_HEALTH_TOKEN = TOKEN
    found = get(Authorization=f"Bearer {TOKEN}").json()
    assert found.keys() == {"status", "problems", "error", "log", "processes"}
    assert found["log"]["entries"] == history.state().entries
    assert found["processes"] == []


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", TOKEN, "Bearer ü"])
def test_who_has_another_token_does_not(settings: Any, given: str) -> None:
    settings.WAGTAIL_LIVE_HEALTH_TOKEN = TOKEN
    assert get(Authorization=given).json().keys() == {"status", "problems"}


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer "])
def test_without_a_token_in_the_settings_none_is_right(given: str) -> None:
    assert get(Authorization=given).json().keys() == {"status", "problems"}


@pytest.mark.parametrize(
    ("is_superuser", "is_active", "sees"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_an_active_superuser_sees_the_figures(
    is_superuser: bool, is_active: bool, sees: bool
) -> None:
    user = User.objects.create_user("ada", is_superuser=is_superuser, is_staff=True)
    client = Client()
    client.force_login(user)
    User.objects.update(is_active=is_active)
    assert ("log" in get(client).json()) is sees


def test_it_answers_with_503_while_the_database_does_not(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    def look() -> Report:
        raise ConnectionError("refused")

    monkeypatch.setattr(status, "look", look)
    settings.WAGTAIL_LIVE_HEALTH_TOKEN = TOKEN
    answer = get(Authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "down",
        "problems": ["LOG_UNREACHABLE"],
        "error": "refused",
        "log": None,
        "processes": [],
    }


def test_it_is_only_read() -> None:
    assert Client().post(reverse("wagtail_live:health")).status_code == 405
    assert Client().head(reverse("wagtail_live:health")).status_code == 200
