"""
The per-process task: wait for the bell or the poll, read the log, let the live queries answer.

One relay per event loop. Each live query has a feed: its own queue of one (what came while it was
busy is merged), so that a slow query delays nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from weakref import WeakKeyDictionary

from django.db import DatabaseError

from wagtail_live import bell, conf, database, impact, log
from wagtail_live.conf import settings
from wagtail_live.cursor import Sealer, fingerprint
from wagtail_live.events import Answer, Audience, Batch, Entry, Position, Query, Snapshot
from wagtail_live.exceptions import BadCursor, Forbidden, LiveError, ServiceUnavailable
from wagtail_live.hub import Follower, Hub, LiveQuery, Question
from wagtail_live.missed import missed
from wagtail_live.representation import Representation

logger = logging.getLogger("wagtail_live")

#: A snapshot serves everybody who joins within this time, unless a change comes first.
SNAPSHOT_SECONDS = 1.0
#: A live query without followers is kept this long: they may be about to come back.
LINGER_SECONDS = 5.0
#: A relay without live queries stops after this long.
IDLE_SECONDS = 60.0
PRUNE_SECONDS = 600.0
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
#: More keys than this in one ``delete`` and a fresh snapshot is shorter.
LEFT_LIMIT = 1000


class _Discontinuity(Exception):
    """The log does not go on where this process stopped: restored, pruned too far, unreadable."""


class Feed:
    """One live query at work: asks the database for it, one thing at a time."""

    def __init__(self, query: Query, audience: Audience, hub: Hub) -> None:
        self.hub = hub
        self.representation = Representation(query, audience)
        self.lock = asyncio.Lock()
        self.live_query: LiveQuery | None = None
        self.users = 0
        self._fingerprint = fingerprint(query, audience)
        self._covered = hub.position
        self._pending: Batch | None = None
        self._work: asyncio.Task[None] | None = None
        self._snapshot: tuple[float, Snapshot] | None = None

    @property
    def covered(self) -> Position:
        """Everything up to here is in what the followers have."""
        return self._covered if self.busy else self.hub.position

    @property
    def busy(self) -> bool:
        """Whether batches wait or are being worked on."""
        return self._work is not None or self._pending is not None

    async def join(self, follower: Follower, cursor: str | None) -> None:
        """Give ``follower`` its base or what it missed, and let it follow."""
        async with self.lock:
            live_query = await self._opened()
            reset = None
            if cursor is not None:
                try:
                    await self._resume(live_query, follower, cursor)
                    return
                except BadCursor as error:
                    reset = error.reason
            covered = self.covered
            snapshot = await self._base(live_query)
            sealed = self._seal(covered)
            follower.outbox.write(
                live_query.base(snapshot, follower.uid, follower.event, sealed, reset)
            )
            live_query.add(follower)

    def push(self, batch: Batch) -> None:
        """Take a batch that may touch this live query."""
        if self._pending is None:
            if self._work is None:
                self._covered = batch.before
            self._pending = batch
        else:
            self._pending = self._pending.merge(batch)
        if self._work is None:
            self._work = asyncio.create_task(self._settle_all())

    def renew(self, last: Position) -> None:
        """Give every follower a fresh base: what came before proves nothing."""
        label = self.live_query.label if self.live_query else ""
        self.push(Batch(before=last, last=last, renew=frozenset({label})))

    def close(self) -> asyncio.Task[None] | None:
        """Stop working; return the task that stops, if there is one."""
        if self._work is not None:
            self._work.cancel()
        return self._work

    async def _opened(self) -> LiveQuery:
        if self.live_query is None:
            label = await database.run(self.representation.label)
            query, audience = self.representation.query, self.representation.audience
            self.live_query = LiveQuery(query, audience, label, conf.page_label())
            # From here on batches wait behind the lock: the base is read after its position.
            self.hub.add(self.live_query)
        return self.live_query

    async def _base(self, live_query: LiveQuery) -> Snapshot:
        now = time.monotonic()
        if self._snapshot is not None and now - self._snapshot[0] < SNAPSHOT_SECONDS:
            return self._snapshot[1]
        snapshot = await database.run(self.representation.snapshot)
        live_query.held |= snapshot.held
        live_query.anchors = snapshot.anchors
        self._snapshot = now, snapshot
        return snapshot

    async def _resume(self, live_query: LiveQuery, follower: Follower, cursor: str) -> None:
        position = _sealer().open(cursor, self._fingerprint)
        # Held first, then the gap: what leaves in between is seen by one of the two.
        try:
            await self._base(live_query)
        except Forbidden:
            if live_query.query.item is None:
                raise
            # The item has gone since: the cursor proves that its holder could see it.
        found = await database.run(
            partial(missed, self.representation, live_query, position, limit=settings.max_batch)
        )
        live_query.resume(follower, found, self._seal(found.last))

    async def _settle_all(self) -> None:
        try:
            while self._pending is not None:
                await self._settle_pending()
        finally:
            self._work = None

    async def _settle_pending(self) -> None:
        for wait in (*RETRY_SECONDS, None):
            async with self.lock:
                batch, self._pending = self._pending, None
                if batch is None or self.live_query is None:
                    return
                try:
                    await self._settle(self.live_query, batch)
                except Exception:
                    logger.exception(
                        "a live query could not be answered: %r", self.live_query.query
                    )
                    self._pending = batch.merge(self._pending) if self._pending else batch
                else:
                    self._covered = batch.last
                    return
                if wait is None:
                    self._pending = None
                    self._snapshot = None
                    self.live_query.end(ServiceUnavailable())
                    return
            await asyncio.sleep(wait)

    async def _settle(self, live_query: LiveQuery, batch: Batch) -> None:
        question = live_query.question(batch)
        if question is None:
            return
        self._snapshot = None
        reason = "renewed"
        if not question.renew:
            answer = await database.run(partial(self._answer, live_query, question))
            if not answer.too_many and len(live_query.left(answer)) <= LEFT_LIMIT:
                live_query.settle(answer, self._seal(batch.last))
                return
            reason = "too_many"
        try:
            snapshot = await database.run(self.representation.snapshot)
        except LiveError as error:
            # The item is gone, or the page that the query names.
            logger.debug("a live query became empty: %s", error)
            snapshot = Snapshot(frozenset(), ())
        live_query.renew(snapshot, reason, self._seal(batch.last))

    def _answer(self, live_query: LiveQuery, question: Question) -> Answer:
        return self.representation.answer(
            question.keys,
            compare=question.compare,
            known=frozenset(live_query.held),
            limit=settings.max_batch,
        )

    def _seal(self, position: Position) -> str:
        return _sealer().seal(position, self._fingerprint)


class Relay:
    """Reads the log for one event loop and keeps its feeds."""

    def __init__(self) -> None:
        self.hub = Hub()
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
                    await self._read_on(give_up=failures >= len(RETRY_SECONDS))
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
    entries = log.read(position.number)
    if head.number <= position.number or not _go_on(entries, position):
        raise _Discontinuity
    if not wanted:
        return Batch(before=position, last=entries[-1].position)
    return impact.batch(entries, position)


def _go_on(entries: Sequence[Entry], position: Position) -> bool:
    return bool(entries) and entries[0].position.number == position.number + 1


def _sealer() -> Sealer:
    return _sealer_of(tuple(conf.secrets()))


@lru_cache(maxsize=4)
def _sealer_of(secrets: tuple[str, ...]) -> Sealer:
    return Sealer(secrets)
