"""
One live query at work: it asks the database, one thing at a time, and tells its followers.

What comes while it is busy is merged into one, so that a slow query delays nobody else and never
piles up work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Protocol, TypeVar

from wagtail_live import conf, database
from wagtail_live.conf import settings
from wagtail_live.counts import counts
from wagtail_live.cursor import Sealer, fingerprint
from wagtail_live.events import Answer, Audience, Batch, Gap, Missed, Position, Query, Snapshot
from wagtail_live.exceptions import BadCursor, Forbidden, LiveError, ServiceUnavailable
from wagtail_live.hub import Follower, Hub, LiveQuery, Question
from wagtail_live.source import Source
from wagtail_live.tail import Tail

logger = logging.getLogger("wagtail_live")

T = TypeVar("T")

#: A snapshot serves everybody who joins within this time, unless a change comes first.
SNAPSHOT_SECONDS = 1.0
#: How long it waits before it asks again, each time that an answer fails; then it gives up.
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
#: So many different gaps are remembered for those who come back.
MISSED_LIMIT = 16
#: More keys than this in one ``delete`` and a fresh snapshot is shorter.
LEFT_LIMIT = 1000


class Reader(Protocol):
    """What a feed asks of the relay that keeps it."""

    hub: Hub
    source: Source
    #: When, by the loop's clock, the last reading began that left nothing out.
    read_at: float

    async def caught_up(self) -> None:
        """Return when everything that was committed before the call has been read."""

    async def reach(self, position: Position) -> Tail:
        """Return the newest entries, reaching back to ``position`` if they can."""

    async def older_gap(self, position: Position) -> Gap:
        """Return the gap after a position that the newest entries do not reach."""


class Feed:
    """A live query with what it needs to answer: its representation, its queue of one, its lock."""

    def __init__(self, query: Query, audience: Audience, reader: Reader) -> None:
        self.hub = reader.hub
        self.representation = reader.source.representation(query, audience)
        self.lock = asyncio.Lock()
        self.live_query: LiveQuery | None = None
        self.users = 0
        self._fingerprint = fingerprint(query, audience)
        self._reader = reader
        self._covered = self.hub.position
        self._pending: Batch | None = None
        #: When everything had been read that is not in what waits, by the loop's clock.
        self._proven = float("-inf")
        self._work: asyncio.Task[None] | None = None
        self._snapshot: tuple[float, Snapshot] | None = None
        self._has_base = False
        #: When the content was last looked at, by the loop's clock.
        self._looked_at = float("-inf")
        #: What those who came back had missed, by the step at which they were: see ``Tail``.
        self._missed: dict[int, Missed | BadCursor] = {}
        self._pushes = 0
        self._renewals = 0

    @property
    def covered(self) -> Position:
        """Everything up to here is in what the followers have."""
        return self._covered if self.busy else self.hub.position

    def told(self) -> frozenset[Hashable]:
        """Return the keys that its followers have been told of."""
        return frozenset() if self.live_query is None else frozenset(self.live_query.told)

    @property
    def busy(self) -> bool:
        """Whether batches wait or are being worked on."""
        return self._work is not None or self._pending is not None

    async def join(self, follower: Follower, cursor: str | None) -> None:
        """Give ``follower`` its base or what it missed, and let it follow."""
        async with self.lock:
            live_query = await self._opened()
            reset = None if follower.had is None else "access_changed"
            if cursor is not None:
                try:
                    await self._resume(live_query, follower, cursor)
                    return
                except BadCursor as error:
                    reset = error.reason
            snapshot, covered = await self._proven_base(live_query)
            sealed = self._seal(covered)
            if follower.had is not None:
                follower.take_back(follower.had - snapshot.held)
            follower.outbox.write(
                live_query.base(
                    snapshot,
                    follower.uid,
                    follower.event,
                    sealed,
                    reset,
                    follower.reconnect_seconds,
                )
            )
            live_query.add(follower)

    def push(self, batch: Batch) -> None:
        """Take a batch that may touch this live query."""
        self._missed.clear()
        self._pushes += 1
        if self._pending is None:
            if self._work is None:
                self._covered = batch.before
            self._pending = batch
            self._proven = self._reader.read_at
        else:
            self._pending = self._pending.merge(batch)
        if self._work is None:
            self._work = asyncio.create_task(self._settle_all())

    def renew(self, last: Position) -> None:
        """Give every follower a fresh base: what came before proves nothing."""
        self._renewals += 1
        self._snapshot = None
        self._covered = last
        # Also with nobody there yet: somebody may be about to join on what is known here.
        label = "" if self.live_query is None else self.live_query.label
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

    async def _proven_base(self, live_query: LiveQuery) -> tuple[Snapshot, Position]:
        """Return the base, and up to where everything is in it."""
        for _ in RETRY_SECONDS:
            covered = self.covered
            try:
                return await self._base(live_query), covered
            except BadCursor:
                await self._reader.caught_up()
        raise ServiceUnavailable

    async def _base(self, live_query: LiveQuery) -> Snapshot:
        now = asyncio.get_running_loop().time()
        if self._snapshot is not None and now - self._snapshot[0] < SNAPSHOT_SECONDS:
            return self._snapshot[1]
        renewals = self._renewals
        snapshot = await self._look(self.representation.snapshot, self.hub.position)
        live_query.widen(snapshot)
        if renewals == self._renewals:
            self._snapshot = now, snapshot
        self._has_base = True
        return snapshot

    async def _resume(self, live_query: LiveQuery, follower: Follower, cursor: str) -> None:
        position = _sealer().open(cursor, self._fingerprint)
        if not self._has_base:
            await self._first_base(live_query)
        # What had left when the content was last looked at is not held, and no batch will tell of
        # it: so the gap ends only after everything that was committed until then.
        if self._reader.read_at < self._looked_at:
            await self._reader.caught_up()
        missed = await self._missed_since(live_query, position)
        waiting = self._pending and live_query.question(self._pending)
        if waiting and waiting.compare:
            # What left and came back with it is no news to those who follow here, but to this one
            # it may be: another process may have told it of the leaving.
            raise BadCursor("query_changed")
        now = asyncio.get_running_loop().time()
        live_query.resume(follower, missed, self._seal(missed.last), now)

    async def _first_base(self, live_query: LiveQuery) -> None:
        """Learn what the live query holds, for the sake of those who hold it already."""
        try:
            await self._base(live_query)
        except Forbidden:
            if live_query.query.item is None:
                raise
            # The item has gone since: the cursor proves that its holder could see it.
        self._has_base = True

    async def _look(self, question: Callable[[], T], position: Position) -> T:
        """
        Return the answer of the content, and remember when it was given.

        Raises ``BadCursor`` when the log does not hold ``position`` any more: a backup may have
        been put back, and what the content said is of another history than what will be sealed.
        """
        try:
            return await database.run(partial(_prove, question, self._reader.source, position))
        finally:
            self._looked_at = asyncio.get_running_loop().time()

    async def _missed_since(self, live_query: LiveQuery, position: Position) -> Missed:
        """Return what is missing after ``position``; who missed the same shares the look-up."""
        tail = await self._reader.reach(position)
        if not tail.reaches(position):
            gap = await self._reader.older_gap(position)
            return await self._look_up(live_query, gap)
        step = tail.step(live_query.labels, position)
        if step is None:
            return Missed({}, {}, frozenset(), tail.last)
        if step not in self._missed:
            pushes = self._pushes
            found: Missed | BadCursor
            try:
                found = await self._look_up(live_query, tail.gap(position))
            except BadCursor as error:
                found = error
            if pushes == self._pushes:
                if len(self._missed) >= MISSED_LIMIT:
                    del self._missed[next(iter(self._missed))]
                self._missed[step] = found
        else:
            found = self._missed[step]
        if isinstance(found, BadCursor):
            raise BadCursor(found.reason)
        return found

    async def _look_up(self, live_query: LiveQuery, gap: Gap) -> Missed:
        if live_query.question(gap.batch) is None:
            return Missed({}, {}, frozenset(), gap.batch.last)
        look_up = partial(
            self._reader.source.missed,
            self.representation,
            live_query,
            gap,
            limit=settings.max_batch,
        )
        return await database.run(partial(_prove, look_up, self._reader.source, gap.batch.last))

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
                proven = self._proven
                # What came since the batch does not touch this live query, or it would be in it.
                upto = self.hub.position
                if batch is None or self.live_query is None:
                    return
                renewals = self._renewals
                try:
                    await self._settle(self.live_query, batch, upto, proven)
                except BadCursor:
                    # Nothing is told of another history: the relay finds it out, and renews.
                    self._put_back(batch, proven)
                    with suppress(ServiceUnavailable):
                        await self._reader.caught_up()
                except Exception:
                    logger.exception(
                        "a live query could not be answered: %r", self.live_query.query
                    )
                    counts.failed()
                    self._put_back(batch, proven)
                else:
                    if renewals == self._renewals:
                        self._covered = upto
                    return
                if wait is None:
                    self._pending = None
                    self._snapshot = None
                    self._has_base = False
                    self.live_query.end(ServiceUnavailable())
                    return
            await asyncio.sleep(wait)

    def _put_back(self, batch: Batch, proven: float) -> None:
        self._pending = batch.merge(self._pending) if self._pending else batch
        self._proven = proven

    async def _settle(
        self, live_query: LiveQuery, batch: Batch, upto: Position, proven: float
    ) -> None:
        question = live_query.question(batch)
        if question is None:
            return
        self._snapshot = None
        reason = question.renew
        if reason is None:
            answer = await self._look(partial(self._answer, live_query, question), upto)
            if not answer.too_many and len(live_query.left(answer)) <= LEFT_LIMIT:
                quiet = await self._quiet(live_query, batch, answer)
                live_query.settle(answer, self._seal(upto), quiet, proven)
                return
            reason = "too_many"
        try:
            snapshot = await self._look(self.representation.snapshot, upto)
        except BadCursor:
            raise
        except Forbidden as error:
            if reason == "access_changed":
                live_query.take_back(live_query.told)
                live_query.end(error)
                return
            snapshot = Snapshot(frozenset(), ())
        except LiveError as error:
            # The item is gone, or the page that the query names.
            logger.debug("a live query became empty: %s", error)
            snapshot = Snapshot(frozenset(), ())
        live_query.renew(snapshot, reason, self._seal(upto))

    async def _quiet(
        self, live_query: LiveQuery, batch: Batch, answer: Answer
    ) -> frozenset[Hashable]:
        """Return the keys that only what the audience cannot notice has touched."""
        doubtful = live_query.doubtful(answer)
        if not doubtful:
            return frozenset()
        tail = await self._reader.reach(batch.before)
        if not tail.reaches(batch.before):
            return frozenset()
        entries = tail.gap(batch.before).entries
        look_up = partial(
            self._reader.source.unnoticed, self.representation, live_query, entries, doubtful
        )
        return await database.run(look_up)

    def _answer(self, live_query: LiveQuery, question: Question) -> Answer:
        return self.representation.answer(
            question.keys,
            compare=question.compare,
            known=frozenset(live_query.told),
            limit=settings.max_batch,
        )

    def _seal(self, position: Position) -> str:
        return _sealer().seal(position, self._fingerprint)


def _prove(question: Callable[[], T], source: Source, position: Position) -> T:
    """Return the answer to ``question``, or raise ``BadCursor``: the log is asked after it."""
    try:
        answer = question()
    except LiveError:
        source.prove(position)
        raise
    source.prove(position)
    return answer


def _sealer() -> Sealer:
    return _sealer_of(tuple(conf.secrets()))


@lru_cache(maxsize=4)
def _sealer_of(secrets: tuple[str, ...]) -> Sealer:
    return Sealer(secrets)
