"""
The door to blocking work: a few threads of our own, each with its own database connections.

Not ``sync_to_async``: its one thread-sensitive thread is shared by the whole process, and one slow
query would delay every socket (channels issue 2132). Connections stay open between jobs, at most
one per thread and database, and are replaced when the database has dropped them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connections, reset_queries

from wagtail_live.conf import settings

logger = logging.getLogger("wagtail_live")

T = TypeVar("T")


async def run(job: Callable[[], T]) -> T:
    """
    Run ``job`` on a thread where the ORM may be used, off the event loop.

    The job must be safe to repeat: when the database has dropped the connection it is tried once
    more on a fresh one.
    """
    return await asyncio.get_running_loop().run_in_executor(_executor(), _attempt, job)


async def disconnect() -> None:
    """End the threads and their connections. The next ``run`` starts anew."""
    executor = _executor()
    _executor.cache_clear()
    # Every thread takes exactly one of these: none ends before all have begun.
    together = Barrier(settings.database_threads)
    for _ in range(settings.database_threads):
        executor.submit(_disconnect, together)
    await asyncio.to_thread(executor.shutdown)


def _disconnect(together: Barrier) -> None:
    together.wait()
    connections.close_all()


def _attempt(job: Callable[[], T]) -> T:
    # With DEBUG on a connection keeps its statements until a request begins; here none ever does.
    reset_queries()
    try:
        return job()
    except (InterfaceError, OperationalError) as error:
        logger.info("the database connection is renewed after: %s", error)
        connections.close_all()
        return job()


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings.database_threads, thread_name_prefix="wagtail-live-db")
