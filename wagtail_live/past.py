"""
What came before, for those who come back: the newest entries in memory, older ones from the log.

Whoever comes first after a start has the newest of them read, once for all.
"""

from __future__ import annotations

import asyncio
from functools import partial

from wagtail_live import database
from wagtail_live.events import Entry, Gap, Position, Touched
from wagtail_live.exceptions import BadCursor
from wagtail_live.source import Source
from wagtail_live.tail import ENTRIES_LIMIT, Tail

#: Who missed more entries than this is not told one by one.
GAP_LIMIT = 10_000


class Past:
    """What came before ``position``, and what the relay adds to ``tail`` as it reads on."""

    def __init__(self, source: Source, position: Position) -> None:
        self.tail = Tail(position)
        self._source = source
        self._reaching_back: asyncio.Task[None] | None = None

    async def reach(self, position: Position) -> None:
        """Let ``tail`` reach back to ``position``, if it can."""
        if position.number < self.tail.base.number:
            if self._reaching_back is None:
                self._reaching_back = asyncio.create_task(self._reach_back())
            await asyncio.shield(self._reaching_back)

    async def older_gap(self, position: Position) -> Gap:
        """
        Return the gap after a position that ``tail`` does not reach.

        Raises ``BadCursor`` when the log does not prove it either.
        """
        return await database.run(partial(_older_gap, self._source, position))

    def close(self) -> asyncio.Task[None] | None:
        """Stop reaching back; return the task that stops, if there is one."""
        if self._reaching_back is not None:
            self._reaching_back.cancel()
        return self._reaching_back

    async def _reach_back(self) -> None:
        before = self.tail.base
        try:
            found = await database.run(partial(_newest, self._source, before))
        except BadCursor:
            return  # the log does not hold it any more: the next reading finds out
        except Exception:
            self._reaching_back = None  # the next one who comes tries again
            raise
        # It may have become too long meanwhile: what was read would not join on.
        if self.tail.base == before:
            self.tail.reach_back(*found)


def _newest(source: Source, position: Position) -> tuple[Position, list[Entry], Touched]:
    base, entries = source.until(position, limit=ENTRIES_LIMIT)
    return base, entries, source.touched(entries)


def _older_gap(source: Source, position: Position) -> Gap:
    entries: list[Entry] = []
    last = position
    while found := source.since(last):
        entries += found
        last = found[-1].position
        if len(entries) > GAP_LIMIT:
            raise BadCursor("too_many")
    return Gap(tuple(entries), source.touched(entries).batch(position, last))
