"""
The example site as an ASGI application that also says how it fares, under ``/debug/``.

Nothing of the site is replaced: what a process knows only of itself is read and told.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save

from example_project.asgi import application as site  # sets Django up, which the last two need
from wagtail_live import head, relay
from wagtail_live.counts import counts
from wagtail_live.models import Entry

Message = MutableMapping[str, Any]

#: (model, key, Unix time in ms at which its transaction had committed), the newest last.
commits: deque[tuple[str, str, float]] = deque(maxlen=100)
opened: list[str] = []
#: What the threads of wagtail_live have asked the database, the newest last.
statements: deque[str] = deque(maxlen=100_000)


def _note_commit(instance: Entry, created: bool, **kwargs: Any) -> None:
    """Runs right after the commit: its callback is registered just before the log's own."""
    if created:
        said = instance.model, instance.object_id
        transaction.on_commit(
            lambda: commits.append((*said, time.time() * 1000)), using=head.database()
        )


def _note_connection(connection: Any, **kwargs: Any) -> None:
    opened.append(threading.current_thread().name)
    connection.execute_wrappers.append(_note_statement)


def _note_statement(execute: Any, *arguments: Any) -> Any:
    if "wagtail-live-db" in threading.current_thread().name:
        statements.append(arguments[0][:120])
    return execute(*arguments)


for name in ("POLL_SECONDS", "HEARTBEAT_SECONDS"):
    if name in os.environ:
        setattr(settings, f"WAGTAIL_LIVE_{name}", float(os.environ[name]))
if "MAX_BUFFER_BYTES" in os.environ:
    settings.WAGTAIL_LIVE_MAX_BUFFER_BYTES = int(os.environ["MAX_BUFFER_BYTES"])
post_save.connect(_note_commit, sender=Entry, weak=False)
connection_created.connect(_note_connection, weak=False)


def _state() -> dict[str, Any]:
    gc.collect()
    current = relay.current()
    return {
        "pid": os.getpid(),
        "sessions": current.sessions,
        "cut": counts.cut,
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "feeds": len(current._feeds),
        "live_queries": len(current.hub),
        "followers": sum(len(live_query) for live_query in current.hub),
        "statements": len(statements),
        "objects": len(gc.get_objects()),
        # The pool's connections stay; a request's is closed with it.
        "pool_connections_opened": sum("wagtail-live-db" in name for name in opened),
    }


PAGES: dict[str, Callable[[], Any]] = {
    "/debug/state": _state,
    "/debug/commits": lambda: [*commits],
    "/debug/statements": lambda: [*statements],
    "/debug/opened": lambda: [*opened],
}


async def application(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    page = PAGES.get(scope["path"]) if scope["type"] == "http" else None
    if page is None:
        await site(scope, receive, send)
        return
    body = json.dumps(page()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
