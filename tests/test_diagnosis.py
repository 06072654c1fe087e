"""What is wrong is told from figures alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wagtail_live import diagnosis
from wagtail_live.diagnosis import ProcessState
from wagtail_live.events import LogState

QUIET = LogState(
    head=7, floor=2, unnumbered=0, first=None, waiting_seconds=0.0, oldest_seconds=3600.0
)
FINE = ProcessState(
    host="web1",
    pid=12,
    version="0.1.0",
    up_seconds=7200.0,
    seen_seconds=5.0,
    position=7,
    behind=0,
    sessions=3,
    live_queries=1,
    subscriptions=4,
    cut={},
    bell="ok",
    bell_error="",
    failures=0,
    failed_seconds=None,
)
DAY = 86_400.0


def told(log: LogState = QUIET, *processes: ProcessState, stalled: bool = False) -> set[str]:
    report = diagnosis.report(log, processes, stalled=stalled, retention_seconds=DAY)
    return {problem.name for problem in report.problems}


def test_a_log_without_processes_and_a_process_that_follows_are_fine() -> None:
    assert told() == told(QUIET, FINE) == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"behind": 1}, "RELAY_BEHIND"),
        ({"seen_seconds": 31.0}, "PROCESS_SILENT"),
        ({"bell": "silent"}, "BELL_SILENT"),
        ({"failures": 1, "failed_seconds": 5.0}, "QUERIES_FAILING"),
    ],
)
def test_one_process_that_is_not_fine_is_told(change: dict[str, object], code: str) -> None:
    assert told(QUIET, FINE, replace(FINE, **change)) == {code}


@pytest.mark.parametrize(
    "change",
    [
        {"seen_seconds": 29.0},
        {"bell": "off"},
        {"failures": 9, "failed_seconds": 61.0},
        {"sessions": 5000, "cut": {"SLOW_CONSUMER": 20}},
    ],
)
def test_what_is_no_problem_is_not_told(change: dict[str, object]) -> None:
    assert told(QUIET, replace(FINE, **change)) == set()


def test_a_process_that_has_gone_counts_no_more() -> None:
    gone = replace(FINE, seen_seconds=61.0, behind=5, bell="silent")
    report = diagnosis.report(QUIET, [FINE, gone], stalled=False, retention_seconds=DAY)
    assert report.processes == (FINE,)
    assert report.status == "ok"


def test_an_entry_that_waits_is_a_problem_where_somebody_follows() -> None:
    waiting = replace(QUIET, unnumbered=1, first=8, waiting_seconds=9.0)
    assert told(waiting, FINE, stalled=True) == {"NUMBERING_STALLED"}
    assert told(waiting, replace(FINE, seen_seconds=61.0), stalled=True) == set()
    assert told(waiting, FINE) == set()


def test_an_entry_may_wait_for_a_poll_and_a_little_more() -> None:
    waiting = replace(QUIET, unnumbered=1, first=8, waiting_seconds=7.0)
    assert diagnosis.seems_stalled(waiting, poll_seconds=1.0)
    assert not diagnosis.seems_stalled(waiting, poll_seconds=3.0)


def test_a_log_that_is_not_pruned_is_told_once_a_process_had_the_time() -> None:
    old = replace(QUIET, oldest_seconds=DAY + 3601)
    assert told(old, FINE) == {"LOG_UNPRUNED"}
    assert told(old, replace(FINE, up_seconds=60.0)) == told(old) == set()


def test_the_gravest_comes_first_and_decides_the_status() -> None:
    bad = replace(FINE, bell="silent", behind=2)
    waiting = replace(QUIET, unnumbered=1, first=8, waiting_seconds=9.0)
    report = diagnosis.report(waiting, [bad], stalled=True, retention_seconds=DAY)
    assert [one.name for one in report.problems] == [
        "NUMBERING_STALLED",
        "RELAY_BEHIND",
        "BELL_SILENT",
    ]
    assert report.status == "down"
    degraded = diagnosis.report(QUIET, [bad], stalled=False, retention_seconds=DAY)
    assert degraded.status == "degraded"


def test_the_log_holds_what_is_numbered_and_not_pruned_and_what_waits() -> None:
    assert replace(QUIET, unnumbered=3).entries == 8
