"""
The per-process task: wait for the bell or the poll, read the log, let the live queries answer.

One relay per event loop; it keeps the feeds of its live queries.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from wagtail_live import bell, database, impact, log
from wagtail_live.conf import settings
from wagtail_live.events import Audience, Batch, Position, Query
from wagtail_live.exceptions import BadCursor, ServiceUnavailable
from wagtail_live.feed import Feed
from wagtail_live.hub import Follower, Hub

logger = logging.getLogger("wagtail_live")

#: A live query without followers is kept this long: they may be about to come back.
LINGER_SECONDS = 5.0
#: A relay without live queries stops after this long.
IDLE_SECONDS = 60.0
PRUNE_SECONDS = 600.0
#: So often the same entries are tried before they are left out and everybody starts afresh.
TRIES = 4


class _Discontinuity(Exception):
    """The log does not go on where this process stopped: restored, pruned too far, unreadable."""


class Relay:
    """Reads the log for one event loop and keeps its feeds."""

    def __init__(self) -> None:
        self.hub = Hub()
        #: How many clients this loop has.
        self.sessions = 0
        self._feeds: dict[tuple[Query, Audience], Feed] = {}
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._pruned_at = time.monotonic()

    async def follow(
        self, query: Query, audience: Audience, follower: Follower, cursor: str | None
    ) -> Feed:
        """
        Let ``follower`` follow ``query`` with the eyes of ``audience``; return the feed to leave.

        Raises ``Forbidden``, ``InvalidQuery`` or ``ServiceUnavailable``.
        """
        await self._running()
        feed = self._feeds.get((query, audience))
        if feed is None:
            feed = self._feeds[query, audience] = Feed(query, audience, self.hub)
        feed.users += 1
        try:
            await feed.join(follower, cursor)
        except BaseException:
            self._release(feed)
            raise
        return feed

    def leave(self, feed: Feed, follower: Follower) -> None:
        """Let ``follower`` go."""
        if feed.live_query is not None:
            feed.live_query.discard(follower)
        self._release(feed)

    @property
    def busy(self) -> bool:
        """Whether a live query still works on what the log said."""
        return any(feed.busy for feed in self._feeds.values())

    async def close(self) -> None:
        """End everything; the next follower starts anew."""
        tasks = [task for feed in self._feeds.values() if (task := feed.close()) is not None]
        if self._task is not None:
            self._task.cancel()
            tasks.append(self._task)
        if tasks:
            await asyncio.wait(tasks)
        self._feeds.clear()
        self.hub = Hub()
        self._task = None

    def _release(self, feed: Feed) -> None:
        feed.users -= 1
        if feed.users == 0:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._forget, feed)

    def _forget(self, feed: Feed) -> None:
        key = feed.representation.query, feed.representation.audience
        if feed.users == 0 and self._feeds.get(key) is feed:
            del self._feeds[key]
            feed.close()
            if feed.live_query is not None:
                self.hub.remove(feed.live_query)

    async def _running(self) -> None:
        if self._task is None or self._task.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(self._ready))
        if self._ready is not None and not self._ready.done():
            await asyncio.shield(self._ready)

    async def _run(self, ready: asyncio.Future[None]) -> None:
        async with bell.listening() as listener:
            idle_since = time.monotonic()
            failures = 0
            while True:
                try:
                    await self._begin(ready)
                    await self._read_on(give_up=failures >= TRIES)
                    failures = 0
                except DatabaseError as error:
                    logger.warning("the log could not be read, trying again: %s", error)
                except Exception:
                    logger.exception("what the log says could not be followed")
                    failures += 1
                if not ready.done():
                    ready.set_exception(ServiceUnavailable())
                    return
                await listener.wait(settings.poll_seconds)
                await self._prune()
                if self._feeds:
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > IDLE_SECONDS:
                    self._task = None
                    return

    async def _begin(self, ready: asyncio.Future[None]) -> None:
        if ready.done():
            return
        if not self._feeds:  # those that outlived a relay go on from where it stopped
            self.hub.position = await database.run(_number_and_head)
        ready.set_result(None)

    async def _read_on(self, *, give_up: bool) -> None:
        """Read what is new; after too many failures leave it out and renew everybody."""
        try:
            if give_up:
                raise _Discontinuity
            while await self._advance():
                pass
        except _Discontinuity:
            await self._start_again()

    async def _advance(self) -> bool:
        """Read on from where we are; return whether there was something."""
        batch = await database.run(partial(_next_batch, self.hub.position, bool(self._feeds)))
        if batch is None:
            return False
        for live_query in self.hub.touched(batch):
            self._feeds[live_query.query, live_query.audience].push(batch)
        self.hub.position = batch.last
        return True

    async def _start_again(self) -> None:
        logger.warning("the log does not go on where it was: every follower gets a fresh base")
        self.hub.position = await database.run(log.head)
        for feed in list(self._feeds.values()):
            feed.renew(self.hub.position)

    async def _prune(self) -> None:
        now = time.monotonic()
        if now - self._pruned_at >= PRUNE_SECONDS:
            self._pruned_at = now
            with contextlib.suppress(Exception):
                await database.run(log.prune)


_relays: WeakKeyDictionary[asyncio.AbstractEventLoop, Relay] = WeakKeyDictionary()


def current() -> Relay:
    """Return the running event loop's relay."""
    loop = asyncio.get_running_loop()
    if loop not in _relays:
        _relays[loop] = Relay()
    return _relays[loop]


def _number_and_head() -> Position:
    while log.has_unnumbered() and log.number():
        pass
    return log.head()


def _next_batch(position: Position, wanted: bool) -> Batch | None:
    head = _number_and_head()
    if head == position:
        return None
    try:
        # Our own position is proven with each read: a backup may have been restored, and its log
        # have grown past where we are.
        entries = log.since(position)
    except BadCursor:
        raise _Discontinuity from None
    if not entries:  # and yet it does not end where we are
        raise _Discontinuity
    if not wanted:
        return Batch(before=position, last=entries[-1].position)
    return impact.batch(entries, position)
