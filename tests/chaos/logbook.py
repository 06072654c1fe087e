"""Writes down the log as it grows, before it is pruned or a backup is put back over it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from itertools import pairwise

from tests.chaos.databases import Database
from tests.chaos.history import Epoch
from tests.chaos.journal import Journal, Record

READ_SECONDS = 1.0


class Logbook:
    """Reads the database's log now and then; an epoch ends when a backup is put back."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self.database = database
        self.journal = journal
        self.epoch = 0
        self.after = 0
        self._lock = asyncio.Lock()

    async def read(self) -> None:
        """Write down what is new."""
        async with self._lock:
            rows = await asyncio.to_thread(self.database.log, self.after)
            if rows:
                self.after = rows[-1][0]
                pairs = [[position, uuid] for position, uuid, *_ in rows]
                self.journal.write(kind="log", epoch=self.epoch, rows=pairs)

    async def read_to_the_end(self) -> None:
        """Write down what is new, when everything that is committed has a position."""
        end = time.monotonic() + 60
        while await asyncio.to_thread(self.database.unnumbered):
            if time.monotonic() > end:
                raise RuntimeError("entries were still without a position after a minute")
            await asyncio.sleep(0.1)
        await self.read()

    async def watch(self) -> None:
        """Read for ever; while the database is away, try again."""
        while True:
            with contextlib.suppress(Exception):
                await self.read()
            await asyncio.sleep(READ_SECONDS)

    def begin_epoch(self, began: float, lost_from: float) -> None:
        """A backup was put back: the log begins anew."""
        self.epoch += 1
        self.after = 0
        self.journal.write(kind="epoch", epoch=self.epoch, began=began, lost_from=lost_from)


def epochs(records: list[Record]) -> list[Epoch]:
    """Return the lives of the log that a logbook tells."""
    logs: list[dict[int, str]] = [{}]
    times = [(float("-inf"), float("inf"))]
    for record in records:
        if record["kind"] == "epoch":
            logs.append({})
            times.append((record["began"], record["lost_from"]))
        elif record["kind"] == "log":
            logs[record["epoch"]].update(dict(record["rows"]))
    for before, log in pairwise(logs):
        # What was pruned when the backup was taken is not in it, and was in the log before.
        beginning = min(log, default=0)
        log.update({at: uuid for at, uuid in before.items() if at < beginning})
    return [
        Epoch(log, began, lost_from) for log, (began, lost_from) in zip(logs, times, strict=True)
    ]
