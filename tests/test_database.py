from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from django.contrib.auth.models import Group
from django.db import Error, InterfaceError, OperationalError, connections

from wagtail_live import database
from wagtail_live.conf import settings

pytestmark = pytest.mark.databases


class Flaky:
    """A job that fails as often as it is told to, then says in which thread it ran."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.runs = 0

    def __call__(self) -> str:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        return threading.current_thread().name


async def on_every_thread(job: Callable[[], object]) -> list[object]:
    """Run ``job`` once on each of the threads: none takes two before all have one."""
    barrier = threading.Barrier(settings.database_threads)

    def together() -> object:
        barrier.wait(10)
        return job()

    return await asyncio.gather(*(database.run(together) for _ in range(settings.database_threads)))


async def test_a_job_runs_off_the_loop_and_its_answer_comes_back() -> None:
    assert (await database.run(Flaky())).startswith("wagtail-live-db")


async def test_a_slow_job_delays_neither_the_loop_nor_the_next_job() -> None:
    let_go = threading.Event()
    slow = asyncio.create_task(database.run(lambda: let_go.wait(10)))
    assert await database.run(lambda: "quick") == "quick"
    assert not slow.done()
    let_go.set()
    assert await slow


async def test_as_many_jobs_run_at_once_as_there_are_threads() -> None:
    names = await on_every_thread(lambda: threading.current_thread().name)
    assert len(set(names)) == settings.database_threads


@pytest.mark.parametrize("error", [InterfaceError("gone"), OperationalError("gone")])
async def test_a_dropped_connection_is_replaced_and_the_job_tried_once_more(
    error: Exception,
) -> None:
    job = Flaky(error)
    await database.run(job)
    assert job.runs == 2


async def test_a_job_that_fails_twice_has_failed() -> None:
    job = Flaky(OperationalError("gone"), OperationalError("still gone"), ValueError("never"))
    with pytest.raises(OperationalError, match="still gone"):
        await database.run(job)
    assert job.runs == 2


async def test_another_error_is_not_tried_again() -> None:
    job = Flaky(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await database.run(job)
    assert job.runs == 1


async def test_a_retry_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wagtail_live")
    await database.run(Flaky(OperationalError("the server has gone away")))
    assert "the server has gone away" in caplog.text


@pytest.fixture
async def connected(committed: None) -> AsyncIterator[None]:
    """A database to connect to; the threads let go of it afterwards."""
    yield
    await on_every_thread(connections.close_all)


@pytest.mark.usefixtures("connected")
async def test_the_connection_stays_open_between_jobs() -> None:
    def connection() -> int:
        Group.objects.count()
        return id(connections["default"].connection)

    first = await on_every_thread(connection)
    second = await on_every_thread(connection)
    assert len(set(first)) == settings.database_threads
    assert set(first) == set(second)


@pytest.mark.usefixtures("connected")
async def test_a_connection_that_the_server_has_dropped_is_no_error() -> None:
    def drop() -> None:
        connection = connections["default"]
        connection.ensure_connection()
        if connection.vendor == "sqlite":  # a file drops nobody
            return
        own, end = {
            "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s)"),
            "mysql": ("SELECT CONNECTION_ID()", "KILL CONNECTION %s"),
        }[connection.vendor]
        with contextlib.suppress(Error), connection.cursor() as cursor:
            cursor.execute(own)
            cursor.execute(end, cursor.fetchone())

    await on_every_thread(drop)
    counts = await on_every_thread(Group.objects.filter(name="Nobody").count)
    assert set(counts) == {0}


@pytest.mark.usefixtures("connected")
async def test_what_one_thread_commits_another_reads() -> None:
    await database.run(lambda: Group.objects.create(name="Readers"))
    counts = await on_every_thread(Group.objects.filter(name="Readers").count)
    assert set(counts) == {1}
