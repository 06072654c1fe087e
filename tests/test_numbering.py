"""Numbering: nothing lost, dense positions, whatever the order of inserts and commits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import pytest
from django.db import connections, transaction

from tests.transactions import Open, append, in_thread, two_writers
from wagtail_live import head, history, numbering

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

WRITERS = 6
EACH = 25


def test_positions_are_dense_and_nothing_is_lost_with_many_writers_and_readers() -> None:
    start = head.position().number
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
                numbering.number()
                after = found[-1][0] if found else start
                found += [(one.position.number, one.object_id) for one in history.read(after)]
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
    start = head.position().number
    early_insert = Open(lambda: append("first in, last out"))
    in_thread(lambda: append("second in, first out"))
    assert [one.object_id for one in history.read(start)] == ["second in, first out"]
    early_insert.commit()
    assert [one.object_id for one in history.read(start)] == [
        "second in, first out",
        "first in, last out",
    ]


@two_writers
def test_many_processes_give_one_dense_order_and_nobody_waits_for_an_open_transaction() -> None:
    """One transaction stays open all the time, and pairs of others commit in reverse order."""
    start = head.position().number
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
    while numbering.number():
        pass
    found = history.read(start, limit=10_000)
    assert [one.position.number for one in found] == list(range(start + 1, start + len(found) + 1))
    order = {one.object_id: one.position.number for one in found}
    assert len(order) == len(found)
    assert "long" not in order
    assert {f"{writer}-{number}" for writer in range(8) for number in range(EACH)} <= set(order)
    assert {f"inserted {which} {n}" for which in ("first", "second") for n in range(pairs)} <= set(
        order
    )
    long.commit()
    assert [one.object_id for one in history.read(found[-1].position.number)] == ["long"]


def test_many_entries_of_one_transaction_are_numbered_in_steps() -> None:
    start = head.position().number
    many = numbering.NUMBER_LIMIT + 5
    with transaction.atomic():
        for number in range(many):
            append(number)
    assert numbering.number() == 5  # the others at the commit
    found = history.read(start, limit=many)
    assert [one.object_id for one in found] == [str(number) for number in range(many)]
