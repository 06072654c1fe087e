"""
A site in memory, on a loop whose clock and threads a test holds in its hands.

What stands here for the database: the log (`MemoryLog`), the content (`World`) and the source that
a relay reads them by (`MemorySource`). Jobs for the database's threads wait in `StillLoop.jobs`
until the test runs them, in any order.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from wagtail_live.events import (
    Answer,
    Audience,
    Entry,
    Gap,
    Kind,
    Missed,
    Position,
    Query,
    Snapshot,
    Touched,
)
from wagtail_live.exceptions import BadCursor
from wagtail_live.hub import LiveQuery
from wagtail_live.source import Source

LABEL = "news.thing"


class StillLoop(asyncio.SelectorEventLoop):
    """A loop that does nothing by itself: its time and its threads' work are the test's."""

    def __init__(self) -> None:
        self.now = 0.0
        self.jobs: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []
        super().__init__()

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = self.create_future()
        self.jobs.append((future, lambda: func(*args)))
        return future

    def do(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` on the loop, and let every task go on."""

        async def run() -> Any:
            return function()

        result = self.run_until_complete(run())
        self.turn()
        return result

    def turn(self) -> None:
        """Let every task go on until it waits for a job or for time."""
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            if not self._ready:
                return

    def work(self, index: int = 0) -> None:
        """Do one of the waiting jobs."""
        future, job = self.jobs.pop(index % len(self.jobs))
        if not future.cancelled():
            try:
                result = job()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        self.turn()

    def work_all(self) -> None:
        while self.jobs:
            self.work()

    def wait(self, seconds: float) -> None:
        """Let time pass, and all work be done."""
        self.now += seconds
        self.turn()
        self.work_all()


@dataclass
class Thing:
    """A row. ``version`` is never given twice, not even after a restored backup."""

    version: int
    live: bool = True
    hidden: bool = False
    section: str = "a"
    #: Goes to and fro, within a version.
    mood: str = "calm"

    @property
    def visible(self) -> bool:
        return self.live and not self.hidden

    def row(self, key: int, history: int = 0) -> str:
        said = {
            "id": key,
            "version": self.version,
            "section": self.section,
            "mood": self.mood,
            "history": history,
        }
        return json.dumps(said)


@dataclass
class MemoryLog:
    """The log's tables."""

    numbered: list[Entry] = field(default_factory=list)
    waiting: list[tuple[int, str, dict[str, Any] | None]] = field(default_factory=list)
    head: Position = field(default_factory=lambda: Position(0, UUID(int=0).hex))
    floor: Position = field(default_factory=lambda: Position(0, UUID(int=0).hex))


class World:
    """The database: content and log, transactions, a backup."""

    def __init__(self) -> None:
        self.things: dict[int, Thing] = {}
        self.log = MemoryLog()
        self.inserted = 0
        self.versions = 0
        self.uuids = 0
        #: How often the log began anew, and by uuid of a position in which of these times it was.
        self.history = 0
        self.histories: dict[str, int] = {UUID(int=0).hex: 0}
        #: What was ever to be seen: (key, version), and keys alone.
        self.seen: set[tuple[int, int]] = set()
        self.seen_keys: set[int] = set()
        self.backup: tuple[dict[int, Thing], MemoryLog] | None = None
        self.failures = 0

    def uuid(self) -> str:
        self.uuids += 1
        made = UUID(int=self.uuids).hex
        self.histories[made] = self.history
        return made

    def reserve(self) -> int:
        """Insert an entry of a transaction that has not committed: its id is taken now."""
        self.inserted += 1
        return self.inserted

    def change(self, key: int, inserted: int | None = None, **fields: Any) -> None:
        """Commit a change of one thing and its entry; ``gone`` deletes it."""
        was = self.things.get(key)
        entry = (
            self.reserve() if inserted is None else inserted,
            str(key),
            {"visible": was.visible} if was else None,
        )
        if fields.pop("gone", False):
            self.things.pop(key, None)
        else:
            self.versions += 1
            old = {} if was is None else vars(was)
            self.things[key] = Thing(**{**old, **fields, "version": self.versions})
            if self.things[key].visible:
                self.seen.add((key, self.versions))
                self.seen_keys.add(key)
        self.log.waiting.append(entry)

    def touch(self, key: int, mood: str) -> None:
        """Commit a change that may leave a thing as it was, or make it what it was before."""
        thing = self.things[key]
        self.log.waiting.append((self.reserve(), str(key), {"visible": thing.visible}))
        self.things[key] = replace(thing, mood=mood)

    def number(self) -> None:
        log = self.log
        for _, key, was in sorted(log.waiting):
            log.head = Position(log.head.number + 1, self.uuid())
            log.numbered.append(Entry(log.head, Kind.SAVE, LABEL, key, was))
        log.waiting = []

    def prune(self, keep: int) -> None:
        log = self.log
        gone = log.numbered[: max(0, len(log.numbered) - keep)]
        if gone:
            log.floor = gone[-1].position
            del log.numbered[: len(gone)]

    def new_epoch(self) -> None:
        self.history += 1
        self.log.numbered = []
        self.log.head = self.log.floor = Position(self.log.head.number, self.uuid())

    def save(self) -> None:
        self.backup = copy.deepcopy((self.things, self.log))

    def restore(self) -> None:
        assert self.backup is not None
        self.things, self.log = copy.deepcopy(self.backup)

    def rows(self, query: Query) -> dict[int, str]:
        """Return what the query gives now."""
        wanted = dict(query.parameters).get("section")
        return {
            key: thing.row(key, self.history)
            for key, thing in sorted(self.things.items())
            if thing.visible and wanted in {None, thing.section}
        }


class MemoryRepresentation:
    """What ``wagtail_live.representation.Representation`` is for a real site."""

    def __init__(self, world: World, query: Query, audience: Audience) -> None:
        self.world = world
        self.query = query
        self.audience = audience

    def label(self) -> str:
        return LABEL

    def snapshot(self) -> Snapshot:
        self._perhaps_fail()
        rows = self.rows()
        return Snapshot(frozenset(rows), tuple(rows.items()))

    def answer(
        self, keys: frozenset[Hashable], *, compare: bool, known: frozenset[Hashable], limit: int
    ) -> Answer:
        self._perhaps_fail()
        return Answer(keys, {key: row for key, row in self.rows().items() if key in keys})

    def rows(self) -> dict[Hashable, str]:
        return dict(self.world.rows(self.query))

    def _perhaps_fail(self) -> None:
        if self.world.failures:
            self.world.failures -= 1
            raise RuntimeError("the database is not well")


class MemorySource(Source):
    """Where a relay reads, in memory."""

    def __init__(self, world: World) -> None:
        self.world = world

    def number(self) -> bool:
        self.world.number()
        return False

    def head(self) -> Position:
        return self.world.log.head

    def since(self, position: Position) -> list[Entry]:
        log = self.world.log
        if position.number < log.floor.number:
            raise BadCursor("expired")
        known = [log.floor, *(entry.position for entry in log.numbered), log.head]
        if position not in known:
            raise BadCursor("unknown")
        found = [entry for entry in log.numbered if entry.position.number > position.number]
        return found[:3]

    def prove(self, position: Position) -> None:
        self.since(position)

    def until(self, position: Position, *, limit: int) -> tuple[Position, list[Entry]]:
        log = self.world.log
        found = [entry for entry in log.numbered if entry.position.number <= position.number]
        if (found[-1].position if found else log.floor) != position:
            raise BadCursor("unknown")
        if len(found) <= limit:
            return log.floor, found
        return found[-limit - 1].position, found[-limit:]

    def touched(self, entries: Sequence[Entry]) -> Touched:
        return Touched(
            changed={LABEL: {int(entry.object_id): entry.position.number for entry in entries}},
            steps={LABEL: frozenset(entry.position.number for entry in entries)},
        )

    def representation(self, query: Query, audience: Audience) -> Any:
        return MemoryRepresentation(self.world, query, audience)

    def missed(self, representation: Any, live_query: LiveQuery, gap: Gap, *, limit: int) -> Missed:
        question = live_query.question(gap.batch)
        if question is None:
            return Missed({}, {}, frozenset(), gap.batch.last)
        if question.renew:
            raise BadCursor(question.renew)
        keys = question.keys
        answer = representation.answer(keys, compare=False, known=frozenset(), limit=limit)
        before: dict[Hashable, bool] = {}
        for entry in gap.entries:
            visible = bool(entry.was and entry.was["visible"])
            before.setdefault(int(entry.object_id), visible)
        rows = answer.rows
        return Missed(
            created={key: row for key, row in rows.items() if not before.get(key, True)},
            updated={key: row for key, row in rows.items() if before.get(key, True)},
            left=frozenset(key for key in keys - rows.keys() if before.get(key, False)),
            last=gap.batch.last,
        )

    def unnoticed(self, *args: Any) -> frozenset[Hashable]:
        return frozenset()

    def prune(self) -> None:
        self.world.prune(keep=4)
