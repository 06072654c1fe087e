"""Entries to append, and transactions that stay open beside the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections, transaction

from example_project.newsroom.models import Notice
from wagtail_live import log
from wagtail_live.events import Kind

#: SQLite lets one transaction write at a time: what needs two open ones cannot happen there.
two_writers = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite has one writer at a time"
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
