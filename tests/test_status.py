"""Each process keeps a row about itself; looking at them all takes bounded time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError
from django.utils import timezone

from example_project.newsroom.models import Notice
from tests.live import end, settled, sync
from tests.transactions import Open, append, two_writers
from wagtail_live import counts, head, history, numbering, status
from wagtail_live.diagnosis import Problem
from wagtail_live.models import Entry, Head, Process
from wagtail_live.testing import LiveClient

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

FIGURES = status.Figures(position=0, sessions=0, live_queries=0, subscriptions=0)


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test looks for itself, and counts from the beginning."""
    monkeypatch.setattr(status, "_last", None)
    monkeypatch.setattr(status, "LOOK_SECONDS", 60.0)
    monkeypatch.setattr(status, "counts", counts.Counts())
    yield


@pytest.fixture
async def quiet() -> AsyncIterator[None]:
    yield
    await end()


def renewed(**changes: Any) -> Process:
    """Return a process's row, as one that is alive has it."""
    status._Row().renew(FIGURES)
    Process.objects.update(**changes)
    return Process.objects.get()


def codes() -> list[str]:
    return [problem.name for problem in status.look().problems]


@pytest.mark.usefixtures("quiet")
async def test_a_process_that_serves_has_a_row_with_its_figures_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "RENEW_SECONDS", 0.02)
    async with LiveClient() as client, LiveClient() as other:
        await client.subscribe("notices", uid="a")
        await client.subscribe("notices", uid="b")
        await other.subscribe("notices")
        await sync(lambda: Notice.objects.create(text="Fog"))
        newest = await sync(head.position)
        async with asyncio.timeout(20):
            while (await sync(Process.objects.get)).position != newest.number:
                await asyncio.sleep(0.01)
        row = await sync(Process.objects.get)
        assert (row.sessions, row.live_queries, row.subscriptions) == (2, 1, 3)
        assert row.pid == os.getpid()
        assert row.bell == "off"
        assert row.behind == 0
    await end()
    assert await sync(Process.objects.count) == 0


@pytest.mark.usefixtures("quiet")
async def test_a_row_that_cannot_be_written_disturbs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = threading.Event()

    def renew(self: Any, *figures: Any) -> None:
        tried.set()
        raise DatabaseError("read-only")

    monkeypatch.setattr(status._Row, "renew", renew)
    async with LiveClient() as client:
        await client.subscribe("notices")
        assert await asyncio.to_thread(tried.wait, 20)
        await sync(lambda: Notice.objects.create(text="Fog"))
        [frame] = await settled(client)
        assert frame["event"] == "create"


def test_what_has_ended_is_not_written_again() -> None:
    row = status._Row()
    row.renew(FIGURES)
    row.end()
    row.renew(FIGURES)
    assert not Process.objects.exists()


def test_a_row_that_somebody_else_cleaned_comes_back() -> None:
    row = status._Row()
    row.renew(FIGURES)
    Process.objects.all().delete()
    row.renew(replace(FIGURES, sessions=5))
    assert Process.objects.get().sessions == 5


def test_rows_of_processes_that_died_are_cleaned_by_the_next() -> None:
    dead = renewed(seen_at=timezone.now() - timedelta(seconds=61))
    renewed()
    assert not Process.objects.filter(pk=dead.pk).exists()


def test_behind_is_what_was_there_ten_seconds_ago_and_is_not_read() -> None:
    row = status._Row()
    append("a")
    numbering.number()
    newest = head.position().number
    row.renew(replace(FIGURES, position=newest - 1))
    assert Process.objects.get().behind == 0
    append("b")
    numbering.number()
    row.renew(replace(FIGURES, position=newest))
    assert Process.objects.get().behind == 0
    row.renew(replace(FIGURES, position=newest))
    assert Process.objects.get().behind == 1
    assert codes() == ["RELAY_BEHIND"]


def test_a_failure_is_told_with_its_age() -> None:
    status.counts.failed()
    row = renewed()
    assert row.failures == 1
    assert codes() == ["QUERIES_FAILING"]
    Process.objects.update(failed_at=timezone.now() - timedelta(seconds=70))
    assert codes() == []


def test_an_empty_log_is_fine() -> None:
    Head.objects.all().delete()
    report = status.look()
    assert (report.status, report.log.entries, report.processes) == ("ok", 0, ())


def test_an_entry_that_nobody_numbers_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "LOOK_AGAIN_SECONDS", 0.01)
    Entry.objects.create(
        kind="save",
        model="newsroom.notice",
        object_id="waits",
        created_at=timezone.now() - timedelta(seconds=7),
    )
    assert codes() == []  # nobody follows
    renewed()
    assert codes() == ["NUMBERING_STALLED"]
    numbering.number()
    assert codes() == []


def test_an_old_entry_that_has_just_been_committed_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renewed()
    Entry.objects.create(
        kind="save",
        model="newsroom.notice",
        object_id="late",
        created_at=timezone.now() - timedelta(seconds=70),
    )
    monkeypatch.setattr(status.time, "sleep", lambda seconds: numbering.number())
    assert codes() == []


@two_writers
def test_a_process_that_hangs_while_it_numbers_is_red_and_looking_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "LOOK_AGAIN_SECONDS", 0.01)
    renewed()
    head.position()
    frozen = Open(lambda: Head.objects.select_for_update().get(pk=1))
    try:
        append("waits")
        Entry.objects.filter(position=None).update(created_at=timezone.now() - timedelta(seconds=7))
        assert codes() == ["NUMBERING_STALLED"]
    finally:
        frozen.commit()


def test_a_log_that_cannot_be_read_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> None:
        raise DatabaseError("no such\n table")

    monkeypatch.setattr(history, "state", state)
    report = status.report()
    assert report.problems == (Problem.LOG_UNREACHABLE,)
    assert report.error == "no such table"


def test_a_database_that_hangs_is_down_and_holds_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer, asked = threading.Event(), []
    real = history.state

    def state() -> Any:
        asked.append(threading.current_thread())
        assert answer.wait(30)
        return real()

    monkeypatch.setattr(history, "state", state)
    monkeypatch.setattr(status, "LOOK_SECONDS", 0.05)
    assert [status.report().status for _ in range(3)] == ["down"] * 3
    [thread] = asked
    assert thread.daemon
    answer.set()
    thread.join(20)
    monkeypatch.setattr(status, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(status, "LOOK_SECONDS", 20.0)
    assert status.report().status == "ok"


def test_who_asks_within_a_second_gets_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "FRESH_SECONDS", 1000.0)
    first = status.report()
    renewed(id=uuid4())
    assert status.report() is first
