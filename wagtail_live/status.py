"""
How it is: each process that serves subscribers keeps a row about itself, and anybody may look.

A row that cannot be written disturbs nobody. Looking takes bounded time, whatever the database
does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

from django.db import connections
from django.utils import timezone

from wagtail_live import __version__, bell, database, diagnosis, goodbye, head, history
from wagtail_live.conf import settings
from wagtail_live.counts import counts
from wagtail_live.diagnosis import ProcessState, Report
from wagtail_live.models import Process

logger = logging.getLogger("wagtail_live")

RENEW_SECONDS = 10.0
#: How long the end of a relay waits until its row has gone.
END_SECONDS = 2.0
#: Whoever looks is answered within this time.
LOOK_SECONDS = 3.0
#: An answer serves everybody who asks within this time.
FRESH_SECONDS = 1.0
#: An entry that seems to wait for too long may come from a long transaction that has just
#: committed: it is looked at again after this time.
LOOK_AGAIN_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Figures:
    """What a relay knows of its work."""

    position: int
    sessions: int
    live_queries: int
    subscriptions: int


Kept = Callable[[Callable[[], Figures]], AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def kept(figures: Callable[[], Figures]) -> AsyncIterator[None]:
    """Keep this process's row while the context lasts."""
    ended = asyncio.Event()
    keeping = asyncio.create_task(_keep(figures, ended))
    try:
        yield
    finally:
        ended.set()
        await asyncio.wait([keeping], timeout=END_SECONDS)
        keeping.cancel()


@contextlib.asynccontextmanager
async def unkept(figures: Callable[[], Figures]) -> AsyncIterator[None]:
    """Keep nothing: for a relay that is driven without a database."""
    yield


def report() -> Report:
    """Return how it is, within ``LOOK_SECONDS``; a database that is silent is down."""
    try:
        return _looking().result(LOOK_SECONDS)
    except TimeoutError:
        return _unreachable(f"there was no answer within {LOOK_SECONDS:g} s")


def look() -> Report:
    """Return how it is. Blocking, for as long as the database takes."""
    state = history.state()
    stalled = diagnosis.seems_stalled(state, settings.poll_seconds)
    if stalled:
        time.sleep(LOOK_AGAIN_SECONDS)
        before, state = state, history.state()
        stalled = state.first == before.first
    return diagnosis.report(
        state, _processes(), stalled=stalled, retention_seconds=settings.retention_hours * 3600
    )


async def _keep(figures: Callable[[], Figures], ended: asyncio.Event) -> None:
    row = _Row()
    # The servers that end by a signal do not wait for tasks, but for those who are told.
    with goodbye.told(ended.set):
        try:
            while not ended.is_set():
                await _renew(row, figures())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_SECONDS):
                        await ended.wait()
        finally:
            with contextlib.suppress(Exception):
                await database.run(row.end)


async def _renew(row: _Row, figures: Figures) -> None:
    try:
        await database.run(partial(row.renew, figures))
    except Exception as error:
        logger.warning("the status of this process was not written: %s", error)


class _Row:
    """This process's row. Writing and ending wait for each other: what has ended stays away."""

    def __init__(self) -> None:
        self._id = uuid4()
        self._started_at = timezone.now()
        self._lock = threading.Lock()
        self._ended = False
        self._head: int | None = None

    def renew(self, figures: Figures) -> None:
        with self._lock:
            if self._ended:
                return
            values = self._values(figures)
            rows = Process.objects.using(head.database())
            if not rows.filter(pk=self._id).update(**values):
                rows.create(pk=self._id, started_at=self._started_at, **values)
            rows.filter(seen_at__lt=_ago(diagnosis.GONE_SECONDS)).delete()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            Process.objects.using(head.database()).filter(pk=self._id).delete()

    def _values(self, figures: Figures) -> dict[str, object]:
        # Behind is what was there the last time and has not been read since: not what comes now.
        behind = 0 if self._head is None else max(0, self._head - figures.position)
        self._head = history.state().head
        heard, error = bell.probe()
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "seen_at": timezone.now(),
            "position": figures.position,
            "behind": behind,
            "sessions": figures.sessions,
            "live_queries": figures.live_queries,
            "subscriptions": figures.subscriptions,
            "cut": dict(counts.cut),
            "bell": heard,
            "bell_error": error[:200],
            "failures": counts.failures,
            "failed_at": None
            if counts.failed_at is None
            else _ago(time.monotonic() - counts.failed_at),
        }


def _processes() -> list[ProcessState]:
    now = timezone.now()

    def seconds_since(moment: datetime) -> float:
        return max(0.0, (now - moment).total_seconds())

    return [
        ProcessState(
            host=row.host,
            pid=row.pid,
            version=row.version,
            up_seconds=seconds_since(row.started_at),
            seen_seconds=seconds_since(row.seen_at),
            position=row.position,
            behind=row.behind,
            sessions=row.sessions,
            live_queries=row.live_queries,
            subscriptions=row.subscriptions,
            cut=row.cut,
            bell=row.bell,  # type: ignore[arg-type]  # written by bell.probe
            bell_error=row.bell_error,
            failures=row.failures,
            failed_seconds=None if row.failed_at is None else seconds_since(row.failed_at),
        )
        for row in Process.objects.using(head.database()).order_by("host", "pid")
    ]


def _ago(seconds: float) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)


def _unreachable(error: str) -> Report:
    return Report((diagnosis.Problem.LOG_UNREACHABLE,), error=error)


# A look that hangs holds one thread, and everybody who asks meanwhile waits for that one.

_lock = threading.Lock()
_last: tuple[float, Future[Report]] | None = None


def _looking() -> Future[Report]:
    global _last
    with _lock:
        if _last is None or (_last[1].done() and time.monotonic() - _last[0] > FRESH_SECONDS):
            found: Future[Report] = Future()
            _last = time.monotonic(), found
            # A daemon: a database that hangs must not keep the process from ending.
            threading.Thread(
                target=_look, args=[found], name="wagtail-live-status", daemon=True
            ).start()
        return _last[1]


def _look(found: Future[Report]) -> None:
    try:
        found.set_result(look())
    except Exception as error:
        found.set_result(_unreachable(" ".join(str(error).split())))
    finally:
        connections.close_all()
