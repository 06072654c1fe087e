"""
The per-process task: wait for the bell or the poll, read the log, let the live queries answer.

One relay per event loop; it keeps the feeds of its live queries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import uniform
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from wagtail_live import bell, database, status
from wagtail_live.askers import Askers
from wagtail_live.conf import settings
from wagtail_live.counts import counts
from wagtail_live.events import Audience, Batch, Entry, Gap, Position, Query, Touched
from wagtail_live.exceptions import BadCursor, ServiceUnavailable
from wagtail_live.feed import Feed
from wagtail_live.hub import Follower, Hub
from wagtail_live.past import Past
from wagtail_live.source import Source
from wagtail_live.tail import Tail
from wagtail_live.waiters import Waiters

logger = logging.getLogger("wagtail_live")

#: A live query without followers is kept this long: they may be about to come back.
LINGER_SECONDS = 5.0
#: A relay without live queries stops after this long.
IDLE_SECONDS = 60.0
#: So often, more or less, so that not all processes do it at once.
PRUNE_SECONDS = 600.0
#: When others are numbering entries, or somebody waits, it looks again this soon.
SOON_SECONDS = 0.05
#: Who comes back waits this long at most for the relay to read on.
CATCH_UP_SECONDS = 15.0
#: So often the same entries are tried before they are left out and everybody starts afresh.
TRIES = 4


class _Discontinuity(Exception):
    """The log does not go on where this process stopped: restored, pruned too far, unreadable."""


class _Unfollowable(Exception):
    """What the entries touched could not be found out."""


@dataclass(frozen=True, slots=True)
class _News:
    """What one reading of the log found, and whether entries are left for others to number."""

    unnumbered: bool
    batch: Batch | None = None
    entries: Sequence[Entry] = ()
    touched: Touched | None = None


class Relay:
    """Reads the log for one event loop and keeps its feeds."""

    def __init__(self, source: Source | None = None, kept: status.Kept = status.unkept) -> None:
        self.source = source or Source()
        self._kept = kept
        self.hub = Hub()
        self.past = Past(self.source, self.hub.position)
        self.askers = Askers()
        #: How many clients this loop has.
        self.sessions = 0
        #: When, by the loop's clock, the last reading began that left nothing out.
        self.read_at = float("-inf")
        self._feeds: dict[tuple[Query, Audience], Feed] = {}
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._listener: bell.Listener | None = None
        self._waiters = Waiters()
        self._pruning: asyncio.Task[None] | None = None
        self._prune_at: float | None = None

    async def follow(
        self, query: Query, audience: Audience, follower: Follower, cursor: str | None
    ) -> Feed:
        """
        Let ``follower`` follow ``query`` with the eyes of ``audience``; return the feed to leave.

        Raises ``Forbidden``, ``InvalidQuery`` or ``ServiceUnavailable``.
        """
        await self.running()
        feed = self._feeds.get((query, audience))
        if feed is None:
            feed = self._feeds[query, audience] = Feed(query, audience, self)
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
        """Whether a live query still works on what the log said, or somebody is held for it."""
        return self.askers.busy or any(feed.busy for feed in self._feeds.values())

    async def close(self) -> None:
        """End everything; the next follower starts anew."""
        for own in (self._task, self._pruning):
            if own is not None:
                own.cancel()
        ending = [feed.close() for feed in self._feeds.values()]
        ending += [self._task, self.past.close(), self._pruning]
        tasks = [task for task in ending if task is not None]
        if tasks:
            await asyncio.wait(tasks)
        self._feeds.clear()
        self.hub = Hub()
        self._go_to(self.hub.position)
        self._task = self._pruning = None

    async def caught_up(self) -> None:
        """
        Return when everything that was committed before the call has been read.

        Raises ``ServiceUnavailable`` after ``CATCH_UP_SECONDS``.
        """
        await self.running()
        read = self._waiters.join()
        if self._listener is not None:
            self._listener.wake()
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await read
        except TimeoutError:
            raise ServiceUnavailable from None

    async def reach(self, position: Position) -> Tail:
        """
        Return the newest entries, reaching back to ``position`` if they can.

        A position that is ahead of this process is another's: this one reads on first.
        """
        if position.number > self.past.tail.last.number:
            await self.caught_up()
        await self.past.reach(position)
        return self.past.tail

    async def older_gap(self, position: Position) -> Gap:
        """
        Return the gap after a position that the newest entries do not reach.

        Raises ``BadCursor`` when the log does not prove it either.
        """
        return await self.past.older_gap(position)

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

    async def running(self) -> None:
        """
        Return when what is committed from now on will be read, or raise ``ServiceUnavailable``.
        """
        if self._task is None or self._task.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(self._ready))
        if self._ready is not None and not self._ready.done():
            await asyncio.shield(self._ready)

    async def _run(self, ready: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        async with bell.listening() as self._listener, self._kept(self._figures):
            idle_since = loop.time()
            failures = 0
            while True:
                began = loop.time()
                soon = self._waiters.begin()
                try:
                    await self._begin(ready)
                    soon = await self._read_on(give_up=failures >= TRIES)
                    failures = 0
                except DatabaseError as error:
                    logger.warning("the log could not be read, trying again: %s", error)
                    counts.failed()
                except Exception:
                    logger.exception("what the log says could not be followed")
                    counts.failed()
                    failures += 1
                else:
                    if not soon:
                        self.read_at = began
                        self._waiters.tell()
                if not ready.done():
                    ready.set_exception(ServiceUnavailable())
                    return
                self._prune_now_and_then()
                # The interval is between two readings, however long the first one took.
                interval = SOON_SECONDS if soon else settings.poll_seconds
                await self._listener.wait(max(0.0, began + interval - loop.time()))
                if self._feeds or self._waiters or self.askers.identified:
                    idle_since = loop.time()
                elif loop.time() - idle_since > IDLE_SECONDS:
                    self._task = None
                    return

    def _figures(self) -> status.Figures:
        return status.Figures(
            position=self.hub.position.number,
            sessions=self.sessions,
            live_queries=len(self.hub),
            subscriptions=sum(map(len, self.hub)),
        )

    async def _begin(self, ready: asyncio.Future[None]) -> None:
        if ready.done():
            return
        # Those that outlived a relay go on from where it stopped.
        if not self._feeds and not self.askers.identified:
            self._go_to(await database.run(partial(_number_and_head, self.source)))
        ready.set_result(None)

    async def _read_on(self, *, give_up: bool) -> bool:
        """
        Read what is new; after too many failures leave it out and renew everybody.

        Return whether there is more that somebody else is numbering.
        """
        try:
            if give_up:
                raise _Discontinuity
            while (news := await self._advance()).batch is not None:
                pass
        except _Discontinuity:
            await self._start_again()
            return True
        return news.unnumbered

    async def _advance(self) -> _News:
        """Read on from where we are; return what there was."""
        read = partial(_read_news, self.source, self.hub.position, bool(self._feeds))
        news = await database.run(read)
        if news.batch is None:
            return news
        if news.touched is None and self._feeds:
            # Somebody came while it was read, perhaps with a base from before: that one must hear.
            return await self._advance()
        self.askers.tell(news.entries)  # before anything is told that came after
        for live_query in self.hub.touched(news.batch):
            self._feeds[live_query.query, live_query.audience].push(news.batch)
        if news.touched is None:
            self._go_to(news.batch.last)
        else:
            self.past.tail.extend(news.entries, news.touched)
            self.hub.position = self.past.tail.last
        return news

    async def _start_again(self) -> None:
        logger.warning("the log does not go on where it was: every follower gets a fresh base")
        self._go_to(await database.run(self.source.head))
        self.askers.doubt_all()
        for feed in list(self._feeds.values()):
            feed.renew(self.hub.position)

    def _go_to(self, position: Position) -> None:
        """Go on from ``position``, whatever was before."""
        self.source.forget()
        self.hub.position = position
        self.past = Past(self.source, position)

    def _prune_now_and_then(self) -> None:
        now = asyncio.get_running_loop().time()
        due = self._prune_at is not None and now >= self._prune_at
        if due or self._prune_at is None:
            self._prune_at = now + PRUNE_SECONDS * uniform(0.5, 1.5)  # noqa: S311 - no secret
        if due and (self._pruning is None or self._pruning.done()):
            self._pruning = asyncio.create_task(self._prune())

    async def _prune(self) -> None:
        try:
            await database.run(self.source.prune)
        except Exception as error:
            logger.warning("the log was not pruned, trying again later: %s", error)


_relays: WeakKeyDictionary[asyncio.AbstractEventLoop, Relay] = WeakKeyDictionary()


def current() -> Relay:
    """Return the running event loop's relay."""
    loop = asyncio.get_running_loop()
    if loop not in _relays:
        _relays[loop] = Relay(kept=status.kept)
    return _relays[loop]


def _number_and_head(source: Source) -> Position:
    source.number()
    return source.head()


def _read_news(source: Source, position: Position, wanted: bool) -> _News:
    unnumbered = source.number()
    if source.head() == position:
        return _News(unnumbered=unnumbered)
    try:
        # Our own position is proven with each read: a backup may have been restored, and its log
        # have grown past where we are.
        entries = source.since(position)
    except BadCursor:
        raise _Discontinuity from None
    if not entries:  # and yet it does not end where we are
        raise _Discontinuity
    last = entries[-1].position
    if not wanted:
        return _News(unnumbered, Batch(before=position, last=last), entries)
    try:
        touched = source.touched(entries)
    except DatabaseError as error:
        # The log was read: it is these entries that the database refuses, and perhaps for ever.
        raise _Unfollowable from error
    return _News(unnumbered, touched.batch(position, last), entries, touched)
