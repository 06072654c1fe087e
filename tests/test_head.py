"""The head: where the log ends, and a lock that nobody holds for long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.servers import wait_until
from tests.transactions import append, in_thread, two_writers
from wagtail_live import head, history
from wagtail_live.source import Source

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]


def test_the_head_is_the_newest_entry() -> None:
    append("x")
    [entry] = history.read(head.position().number - 1)
    assert head.position() == entry.position


def test_a_lost_head_is_made_again() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM wagtail_live_head")
    append("x")
    assert head.position().number == 1


@pytest.fixture
def frozen() -> Iterator[subprocess.Popen[str]]:
    """A process that holds the head in the middle of numbering, and stands still."""
    head.position()  # there is one as soon as anything was ever numbered
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
    start = head.position().number
    in_thread(lambda: append("of an editor"))  # waits for nobody
    assert history.read(start) == []
    relay = Source()
    assert relay.number()  # nor does a relay: it sees that another is at it, and looks again
    wait_until(lambda: not relay.number(), seconds=4 * head.LOCK_SECONDS)
    numbered = history.read(start)
    assert {one.object_id for one in numbered} == {"of an editor", "of the frozen"}
    os.kill(frozen.pid, signal.SIGCONT)
    said, _ = frozen.communicate(timeout=30)
    assert said == "refused\ngoes on\n"
    assert history.read(start) == numbered
    assert head.position() == numbered[-1].position


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
