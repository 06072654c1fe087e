"""``manage.py live_status``: for a terminal, for a script, and while no server runs."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from django.core.management import call_command

from tests.test_diagnosis import FINE, QUIET
from wagtail_live import status
from wagtail_live.diagnosis import Problem, Report


def shown(monkeypatch: pytest.MonkeyPatch, report: Report, *arguments: str) -> tuple[str, int]:
    """Return what the command prints of ``report``, and its exit code."""
    monkeypatch.setattr(status, "report", lambda: report)
    out = io.StringIO()
    try:
        call_command("live_status", *arguments, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(str(ended.code))
    return out.getvalue(), 0


def test_what_is_fine_is_a_table_and_ends_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = replace(FINE, host="web-2", cut={"SLOW_CONSUMER": 2, "SILENT": 1}, sessions=1200)
    text, code = shown(monkeypatch, Report((), QUIET, (FINE, busy)))
    assert code == 0
    assert text == (
        "Status      ok\n"
        "Log         at 7, pruned up to 2\n"
        "            5 entries, the oldest 60 min old\n"
        "            0 without a position\n"
        "\n"
        "HOST   PID  VERSION  UP   SEEN     POSITION  BEHIND  SESSIONS  QUERIES  SUBSCRIPTIONS"
        "  CUT                        FAILURES  BELL\n"
        "web1   12   0.1.0    2 h  5 s ago  7         0       3         1        4            "
        "  -                          0         ok\n"
        "web-2  12   0.1.0    2 h  5 s ago  7         0       1200      1        4            "
        "  1 SILENT, 2 SLOW_CONSUMER  0         ok\n"
    )


def test_a_problem_is_told_as_a_sentence_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = replace(QUIET, unnumbered=3, first=9, waiting_seconds=200.0)
    text, code = shown(monkeypatch, Report((Problem.NUMBERING_STALLED,), waiting, ()))
    assert code == 1
    assert text.splitlines()[:2] == [
        "Status      down",
        f"            NUMBERING_STALLED: {Problem.NUMBERING_STALLED.message}",
    ]
    assert "3 without a position, the first for 3 min" in text
    assert "none serves subscribers" in text


def test_a_database_that_is_down_is_told_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, code = shown(monkeypatch, Report((Problem.LOG_UNREACHABLE,), error="refused"))
    assert code == 1
    assert text.splitlines()[-1].strip() == "refused"


def test_a_script_gets_the_same_as_from_health(monkeypatch: pytest.MonkeyPatch) -> None:
    text, code = shown(monkeypatch, Report((Problem.BELL_SILENT,), QUIET, (FINE,)), "--json")
    found = json.loads(text)
    assert code == 1
    assert (found["status"], found["problems"]) == ("degraded", ["BELL_SILENT"])
    assert found["log"]["entries"] == 5
    assert found["processes"][0]["cut"] == {}


def test_watching_shows_it_again_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    text, code = shown(monkeypatch, Report((), QUIET), "--watch", "5")
    assert (text.count("Status      ok"), slept, code) == (3, [5.0] * 3, 0)


@pytest.mark.usefixtures("committed")
def test_it_works_while_no_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_last", None)
    monkeypatch.setattr(status, "LOOK_SECONDS", 60.0)
    found: Any = shown(monkeypatch, status.report())
    assert found[1] == 0
    assert found[0].startswith("Status      ok\n")
