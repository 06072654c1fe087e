"""The log: nothing lost, dense positions, whatever the order of inserts, commits and processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction

from example_project.newsroom.models import Notice
from tests.servers import wait_until
from wagtail_live import log
from wagtail_live.events import Kind, Position
from wagtail_live.exceptions import BadCursor

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

WRITERS = 6
EACH = 25

#: SQLite lets one transaction write at a time: what needs two open ones cannot happen there.
two_writers = pytest.mark.skipif(
    "connection.vendor == 'sqlite'", reason="SQLite has one writer at a time"
)


def append(key: object) -> None:
    log.append(Kind.SAVE, Notice, key)


def in_thread(function: Callable[[], Any]) -> Any:
    """Run ``function`` on a thread of its own, with a connection of its own."""

    def run() -> Any:
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(30)


class Open:
    """A transaction that stays open on a thread of its own until it is told to end."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._end = threading.Event()
        begun = threading.Event()

        def run() -> None:
            try:
                with transaction.atomic():
                    work()
                    begun.set()
                    assert self._end.wait(30)
            finally:
                connections.close_all()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert begun.wait(30)

    def commit(self) -> None:
        self._end.set()
        self._thread.join(30)


def test_positions_are_dense_and_nothing_is_lost_with_many_writers_and_readers() -> None:
    start = log.head().number
    committed: list[str] = []
    done = threading.Event()

    def write(writer: int) -> None:
        random = Random(writer)
        try:
            for number in range(EACH):
                key = f"{writer}-{number}"
                try:
                    with transaction.atomic():
                        append(key)
                        if random.random() < 0.2:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    continue
                committed.append(key)
        finally:
            connections.close_all()

    def read() -> list[tuple[int, str]]:
        """Follow the log as a relay does: number, read on from the last position."""
        found: list[tuple[int, str]] = []
        try:
            while True:
                last = done.is_set()
                log.number()
                after = found[-1][0] if found else start
                found += [(one.position.number, one.object_id) for one in log.read(after)]
                if last:
                    return found
        finally:
            connections.close_all()

    with ThreadPoolExecutor(WRITERS + 2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(write, one) for one in range(WRITERS)]:
            writer.result(60)
        done.set()
        seen = [reader.result(60) for reader in readers]
    for one in seen:
        assert sorted(key for _, key in one) == sorted(committed)
        assert [number for number, _ in one] == list(range(start + 1, start + len(committed) + 1))
    assert seen[0] == seen[1]


@two_writers
def test_a_transaction_that_commits_late_is_not_skipped() -> None:
    start = log.head().number
    early_insert = Open(lambda: append("first in, last out"))
    in_thread(lambda: append("second in, first out"))
    assert [one.object_id for one in log.read(start)] == ["second in, first out"]
    early_insert.commit()
    assert [one.object_id for one in log.read(start)] == [
        "second in, first out",
        "first in, last out",
    ]


@two_writers
def test_a_writer_does_not_wait_for_whoever_holds_the_head() -> None:
    start = log.head().number
    holder = Open(lambda: log._lock_head("default", wait=True))
    in_thread(lambda: append("not numbered yet"))
    assert log.has_unnumbered()
    assert log.read(start) == []
    holder.commit()
    assert log.number() == 1
    assert [one.object_id for one in log.read(start)] == ["not numbered yet"]


def test_a_failed_numbering_does_not_break_the_writer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = log.head().number

    def fail(**kwargs: object) -> int:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(log, "number", fail)
        append("kept")
    assert "a relay will do it" in caplog.text
    assert log.number() == 1
    assert [one.object_id for one in log.read(start)] == ["kept"]


def test_many_entries_of_one_transaction_are_numbered_in_steps() -> None:
    start = log.head().number
    with transaction.atomic():
        for number in range(log.READ_LIMIT + 5):
            append(number)
    while log.number():
        pass
    first = log.read(start)
    rest = log.read(first[-1].position.number)
    assert len(first) == log.READ_LIMIT
    assert [one.object_id for one in first + rest] == [
        str(number) for number in range(log.READ_LIMIT + 5)
    ]


def test_the_head_is_the_newest_entry() -> None:
    append("x")
    [entry] = log.read(log.head().number - 1)
    assert log.head() == entry.position


def test_a_lost_head_is_made_again() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM wagtail_live_head")
    append("x")
    assert log.head().number == 1


class TestProof:
    def test_every_position_of_the_log_proves_itself(self) -> None:
        start = log.head()
        append("x")
        append("y")
        for position in [start, *(one.position for one in log.read(start.number))]:
            log.prove(position)

    def test_positions_of_another_history_do_not(self) -> None:
        append("x")
        append("y")
        number = log.head().number
        for wrong in (
            Position(number, "0" * 32),
            Position(number - 1, "0" * 32),
            Position(number + 1, log.head().uuid),
        ):
            with pytest.raises(BadCursor) as refused:
                log.prove(wrong)
            assert refused.value.reason == "unknown"

    def test_pruning_is_exact_at_the_boundary(self) -> None:
        start = log.head()
        append("x")
        append("y")
        x, y = (one.position for one in log.read(start.number))
        assert log.prune(older_than=timedelta(0)) == 2
        log.prove(y)
        with pytest.raises(BadCursor) as refused:
            log.prove(x)
        assert refused.value.reason == "expired"
        append("z")
        log.prove(y)
        assert [one.object_id for one in log.read(y.number)] == ["z"]

    def test_only_what_is_older_than_the_retention_is_pruned(self) -> None:
        append("x")
        assert log.prune() == 0
        log.prove(log.head())


def test_pruning_waits_for_nobody_and_loses_no_unnumbered_entry() -> None:
    with transaction.atomic():
        append("x")
        assert log.prune(older_than=timedelta(0)) == 0
    wait_until(lambda: log.number() == 0)
    assert [one.object_id for one in log.read(log.head().number - 1)] == ["x"]


def test_the_command_prunes_by_hours(capsys: pytest.CaptureFixture[str]) -> None:
    append("x")
    call_command("live_prune")
    call_command("live_prune", "--hours=0")
    assert capsys.readouterr().out.splitlines() == [
        "0 entries deleted, older than 24 hours.",
        "1 entries deleted, older than 0 hours.",
    ]
