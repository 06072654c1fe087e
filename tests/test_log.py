"""The log: nothing lost, dense positions, whatever the order of inserts, commits and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

from example_project.newsroom.models import Notice
from tests.servers import wait_until
from wagtail_live import log
from wagtail_live.events import Kind, Position
from wagtail_live.exceptions import BadCursor
from wagtail_live.source import Source

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


@pytest.fixture
def frozen() -> Iterator[subprocess.Popen[str]]:
    """A process that holds the head in the middle of numbering, and stands still."""
    log.head()  # there is one as soon as anything was ever numbered
    name = str(connection.settings_dict["NAME"])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.frozen", name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "stopping\n"
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        yield process
    finally:
        process.kill()
        process.communicate()


@two_writers
def test_a_process_that_freezes_while_it_numbers_holds_up_nobody_for_long(
    frozen: subprocess.Popen[str],
) -> None:
    start = log.head().number
    in_thread(lambda: append("of an editor"))  # waits for nobody
    assert log.read(start) == []
    relay = Source()
    assert relay.number()  # nor does a relay: it sees that another is at it, and looks again
    wait_until(lambda: not relay.number(), seconds=4 * log.LOCK_SECONDS)
    numbered = log.read(start)
    assert {one.object_id for one in numbered} == {"of an editor", "of the frozen"}
    os.kill(frozen.pid, signal.SIGCONT)
    said, _ = frozen.communicate(timeout=30)
    assert said == "refused\ngoes on\n"
    assert log.read(start) == numbered
    assert log.head() == numbered[-1].position


@two_writers
def test_the_bound_of_the_lock_leaves_no_trace_in_the_connection() -> None:
    name = {
        "postgresql": "idle_in_transaction_session_timeout",
        "mysql": "@@SESSION.idle_transaction_timeout",
    }[connection.vendor]

    def setting() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(f"{'SHOW' if connection.vendor == 'postgresql' else 'SELECT'} {name}")
            return cursor.fetchone()

    before = setting()
    append("x")
    assert setting() == before


@two_writers
def test_many_processes_give_one_dense_order_and_nobody_waits_for_an_open_transaction() -> None:
    """One transaction stays open all the time, and pairs of others commit in reverse order."""
    start = log.head().number
    long = Open(lambda: append("long"))
    pairs = 20

    def write(writer: int) -> None:
        try:
            random = Random(writer)
            for number in range(EACH):
                with transaction.atomic():
                    append(f"{writer}-{number}")
                    with suppress(ZeroDivisionError), transaction.atomic():
                        append(f"{writer}-{number}-rolled-back")
                        if random.random() < 0.5:
                            raise ZeroDivisionError
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, one) for one in range(8)]
        for number in range(pairs):
            first = Open(lambda number=number: append(f"inserted first {number}"))
            second = Open(lambda number=number: append(f"inserted second {number}"))
            second.commit()
            first.commit()
        for one in writers:
            one.result(60)
    while log.number():
        pass
    found = log.read(start, limit=10_000)
    assert [one.position.number for one in found] == list(range(start + 1, start + len(found) + 1))
    order = {one.object_id: one.position.number for one in found}
    assert len(order) == len(found)
    assert "long" not in order
    assert {f"{writer}-{number}" for writer in range(8) for number in range(EACH)} <= set(order)
    assert {f"inserted {which} {n}" for which in ("first", "second") for n in range(pairs)} <= set(
        order
    )
    long.commit()
    assert [one.object_id for one in log.read(found[-1].position.number)] == ["long"]


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


def test_pruning_goes_in_steps_and_each_leaves_a_whole_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "PRUNE_LIMIT", 2)
    start = log.head()
    for number in range(5):
        append(number)
    positions = [one.position for one in log.read(start.number)]
    floors = []
    step = log._prune_step

    def watched(*args: Any, **kwargs: Any) -> int:
        deleted = step(*args, **kwargs)
        floors.append(log.floor())
        assert [one.position for one in log.since(log.floor())] == [
            one for one in positions if one.number > log.floor().number
        ]
        return deleted

    monkeypatch.setattr(log, "_prune_step", watched)
    assert log.prune(older_than=timedelta(0)) == 5
    assert floors == [positions[1], positions[3], positions[4], positions[4]]


class TestNewEpoch:
    def test_no_position_of_the_old_one_proves_itself(self) -> None:
        start = log.head()
        append("x")
        append("y")
        old = [start, *(one.position for one in log.read(start.number))]
        assert log.new_epoch() == 2
        for position in old:
            with pytest.raises(BadCursor):
                log.since(position)
        assert log.head().number == old[-1].number
        append("z")
        assert [one.object_id for one in log.since(log.floor())] == ["z"]
        for position in old:
            with pytest.raises(BadCursor):
                log.since(position)

    def test_what_waits_for_a_position_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log, "number_and_ring", lambda **_: None)
        append("waits")
        assert log.new_epoch() == 0
        assert log.number() == 1
        assert [one.object_id for one in log.since(log.floor())] == ["waits"]

    def test_the_command_asks_first(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = log.head()
        monkeypatch.setattr("builtins.input", lambda question: "no")
        with pytest.raises(CommandError):
            call_command("live_new_epoch")
        assert log.head() == before
        monkeypatch.setattr("builtins.input", lambda question: "yes")
        call_command("live_new_epoch")
        call_command("live_new_epoch", "--noinput")
        assert log.head() != before
        said = "A new epoch begins. 0 entries of the old one are deleted."
        assert capsys.readouterr().out.splitlines() == [said, said]


def test_the_command_prunes_by_hours(capsys: pytest.CaptureFixture[str]) -> None:
    append("x")
    call_command("live_prune")
    call_command("live_prune", "--hours=0")
    assert capsys.readouterr().out.splitlines() == [
        "0 entries deleted, older than 24 hours.",
        "1 entries deleted, older than 0 hours.",
    ]
