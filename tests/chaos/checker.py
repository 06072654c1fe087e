"""
Journals in, violations out. Pure.

The checks bear the numbers of the invariants that they hold to:

* I1 no loss: at a cursor a client has all that the log has up to there, and nothing that left
* I2 no phantom: no version that was only drafted, or whose transaction was undone
* I3 order: the position of a subscription's cursors never goes back, nor an object's version, but
  at a fresh base
* I4 no silent gap: I1 at every cursor, not only at the end
* I5 agreement: a position has the same uuid for every client, and it is the log's
* I6 no duplicate: the application (the JavaScript client's handler) is told nothing twice
* I7 convergence: at the end a client holds what REST gives the same asker, row by row
* I8 cursor honesty: a cursor that was not issued for this subscription is never resumed
* I9 no change before a base
* I10 no leak: a row was readable at some moment between the cursor before it and now, in that
  version; a `delete` is about something that could once be read
* I11 revocation, as far as restrictions go: after a cursor beyond a restriction I10 lets none pass
* I12 liveness and I13 state = delivery: the writer's last words reached everybody in time
* I14 resources: when all clients have gone a server holds what it held before the first one came

What is read is the state of now, so a frame may be ahead of its cursor, never behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.history import History, Span
from tests.chaos.journal import Record
from tests.chaos.scopes import Scope, everything
from tests.chaos.view import Row, View, version

Opened = Callable[[str], tuple[int, str] | None]
#: How much more of something a server may hold than before the first client came: its relay goes
#: on for a minute, threads stay in their pools, each with its connection, memory is not given back.
LEEWAY = {
    "sessions": 0,
    "followers": 0,
    "live queries": 0,
    "tasks": 6,
    "threads": 10,
    "database connections": 6,
    "files": 20,
    "megabytes": 60,
}


@dataclass(frozen=True)
class Violation:
    """One broken promise."""

    check: str
    client: str
    scope: str
    t: float
    text: str

    def __str__(self) -> str:
        return f"{self.check} {self.client} ({self.scope}) at {self.t:.2f}: {self.text}"


@dataclass
class Tally:
    """What was counted on the way."""

    frames: int = 0
    rows: int = 0
    repeated: int = 0
    application_duplicates: int = 0
    resumes: int = 0
    connections: int = 0
    resets: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)


BASE, NOTHING = "*", "-"


class Subscription:
    """Follows one subscription of one client through its journal."""

    def __init__(
        self, client: Mapping[str, Any], scope: Scope, history: History, opened: Opened
    ) -> None:
        self.client = client["id"]
        self.asker = client["asker"]
        self.scope = scope
        self.history = history
        self.opened = opened
        self.view = View(scope.collection)
        self.violations: list[Violation] = []
        self.tally = Tally()
        #: (time, object, version or None when it is gone): what the client learned when. `BASE` for
        #: an object: a base came; `NOTHING`: it was refused, and holds nothing.
        self.learned: list[tuple[float, str, int | None]] = []
        #: (time, position, uuid): when it had been told everything up to where.
        self.complete: list[tuple[float, int, str]] = []
        self._asked = False
        self._asked_with: str | None = None
        self._position: tuple[int, str] | None = None
        self._versions: dict[str, int] = {}
        self._told: dict[str, Row | None] = {}
        self._at: dict[str, View] = {}
        self._readable: set[str] = set()
        self._touched: set[str] = set()
        self._resuming = False

    def take(self, record: Record) -> None:
        """Follow one record of the client's journal."""
        t = record["t"]
        match record["kind"]:
            case "ask":
                self._ask(record["cursor"])
            case "lost":
                self._asked = False
            case "frame":
                self.tally.frames += 1
                self._take(record["frame"], t)
            case "app":
                self._tell_application(record, t)

    def _ask(self, cursor: str | None) -> None:
        self.tally.connections += 1
        self._asked, self._asked_with = True, cursor
        if cursor is None:
            self.view.has_base = False
        elif (cursor != self.view.cursor or not self.view.has_base) and cursor in self._at:
            kept = self._at[cursor]  # an old one, on purpose: it resumes what was held then
            self.view = View(kept.collection, dict(kept.rows), cursor, has_base=True)
            self._position = self.opened(cursor)
            self._versions = {key: version(row) for key, row in kept.rows.items()}

    def _take(self, frame: Record, t: float) -> None:
        if frame.get("status") == "error":
            self.tally.refusals[frame["error"]["code"]] += 1
            if frame["type"] == "subscription" or frame["error"]["code"] in {
                "FORBIDDEN",
                "INVALID_QUERY",
            }:
                self.learned.append((t, NOTHING, None))
                self.view.forget()
            self._asked = frame["type"] != "subscription" and self._asked
            return
        if frame.get("type") != "subscription" or frame["event"] == "unsubscribe":
            return
        if not self._asked:
            self._broken("I9", t, f"a frame without a subscription: {frame['event']}")
        match frame["event"]:
            case "init":
                self._start(frame, t)
            case "resume":
                self._resume(frame, t)
            case _:
                self._change(frame, t)

    def _start(self, frame: Record, t: float) -> None:
        if "reset" in frame:
            self.tally.resets[frame["reset"]] += 1
        # A base is read after its position: what it holds was there then or later.
        self._position = self.opened(frame.get("cursor", ""))
        self._versions = {}
        before = set(self.view.rows)
        self.view.apply(frame)
        self._look_at_rows(frame, t)
        self._close_at_cursor(frame, t, everything=True)
        for key in before - self.view.rows.keys():
            self.learned.append((t, key, None))
        self.learned.append((t, BASE, None))

    def _resume(self, frame: Record, t: float) -> None:
        self.tally.resumes += 1
        if self._asked_with is None or not self.view.has_base:
            self._broken("I9", t, "resumed without a base")
        elif self._asked_with != self.view.cursor:
            self._broken("I8", t, f"a cursor that is not its own was resumed: {self._asked_with}")
        self._resuming = True
        self.view.apply(frame)
        self._close_at_cursor(frame, t)

    def _change(self, frame: Record, t: float) -> None:
        if not self.view.has_base:
            self._broken("I9", t, f"{frame['event']} before a base")
        for key, row in self.view.rows_of(frame):
            if self.view.rows.get(key) == row:
                self.tally.repeated += 1
        self._look_at_rows(frame, t)
        self._look_at_gone(frame, t)
        self._touched |= {key for key, _ in self.view.rows_of(frame)}
        self.view.apply(frame)
        self._close_at_cursor(frame, t)

    def _look_at_rows(self, frame: Record, t: float) -> None:
        for key, row in self.view.rows_of(frame):
            self.tally.rows += 1
            seen = version(row)
            self.learned.append((t, key, seen))
            self._readable.add(key)
            if seen < self._versions.get(key, 0):
                text = f"{key} went back from v{self._versions[key]} to v{seen}"
                self._broken("I3", t, text)
            self._versions[key] = seen
            if (key, seen) in self.history.drafted and (key, seen) not in self.history.written:
                self._broken("I2", t, f"{key} v{seen} is a draft or was undone")
                continue
            self._check_known(key, seen, t)
            self._check_readable(key, seen, t)

    def _check_known(self, key: str, seen: int, t: float) -> None:
        if seen == 0 and key in self.history.world:
            return
        operation = self.history.written.get((key, seen))
        if operation is None:
            self._broken("I2", t, f"nobody wrote {key} v{seen}")
        elif all(
            self.history.happened(operation, epoch) is False
            for epoch in range(len(self.history.epochs))
        ):
            self._broken("I2", t, f"{key} v{seen} was never committed ({operation.name})")

    def _check_readable(self, key: str, seen: int, t: float) -> None:
        if not any(
            span.holds is not False and (span.version == seen or not span.certain)
            for span in self._possible(key, t)
        ):
            self._broken("I10", t, f"{self.asker} may not see {key} v{seen}")

    def _possible(self, key: str, t: float) -> list[Span]:
        """Return what a reading between the last cursor and now may have found."""
        at = self._position
        epochs = self.history.epochs_of(*at) if at else range(len(self.history.epochs))
        found: list[Span] = []
        for epoch in epochs:
            line = self.history.timeline(self.scope, self.asker, epoch)
            found += line.possible(key, at[0] if at else 0, t)
        return found

    def _look_at_gone(self, frame: Record, t: float) -> None:
        for key in self.view.gone_in(frame):
            self.learned.append((t, key, None))
            if key not in self._readable and not self._was_readable(key, t):
                self._broken("I10", t, f"{self.asker} could never see {key}, which is deleted")

    def _was_readable(self, key: str, t: float) -> bool:
        """A resume may tell of what went that was readable, even if it was not in this query."""
        anywhere = everything(self.scope.collection)
        return any(
            span.holds is not False
            for epoch in range(len(self.history.epochs))
            for span in self.history.timeline(anywhere, self.asker, epoch).possible(key, 0, t)
        )

    def _close_at_cursor(self, frame: Record, t: float, *, everything: bool = False) -> None:
        """At a cursor a client has everything up to there: hold it to that."""
        cursor = frame.get("cursor")
        if cursor is None:
            return
        at = self.opened(cursor)
        if at is None:
            self._broken("I5", t, "a cursor of somebody else")
            return
        self._at[cursor] = View(self.view.collection, dict(self.view.rows), cursor, has_base=True)
        self.complete.append((t, *at))
        epochs = self.history.epochs_of(*at)
        if not epochs:
            self._broken("I5", t, f"the log has no entry {at[1]} at {at[0]}")
        before, self._position = self._position, at
        if before is not None and not everything:
            self._check_forward(before, at, t)
        after = -1 if everything or before is None else before[0]
        # What an epoch cannot hold against it: it may have been told in another.
        against = [self._faults(epoch, after, at[0], t) for epoch in epochs]
        if against and all(against):
            for check, text in against[0]:
                self._broken(check, t, text)
        self._touched = set()
        self._resuming = False

    def _check_forward(self, before: tuple[int, str], at: tuple[int, str], t: float) -> None:
        if at[0] < before[0]:
            self._broken("I3", t, f"the cursor went back from {before[0]} to {at[0]}")
        together = set(self.history.epochs_of(*before)) & set(self.history.epochs_of(*at))
        if not together:
            self._broken("I5", t, f"{before[0]} and {at[0]} are not of one log, and no reset")

    def _faults(self, epoch: int, after: int, upto: int, t: float) -> list[tuple[str, str]]:
        line = self.history.timeline(self.scope, self.asker, epoch)
        keys = line.told_between(after, upto) | self._touched
        if after < 0:
            keys = {*line.spans, *self.view.rows}
        faults = []
        for key in sorted(keys):
            possible = line.possible(key, upto, t)
            row = self.view.rows.get(key)
            if row is None:
                if all(span.holds for span in possible):
                    last = possible[0]
                    text = f"{key} v{last.version} is missing at {upto} ({last.operation})"
                    faults.append(("I1", text))
            elif all(span.holds is False for span in possible):
                text = f"{key} v{version(row)} is still held at {upto} ({possible[0].operation})"
                faults.append(("I1", text))
            elif self._resuming and any(span.holds is False for span in possible):
                # It is being taken away, by an entry after this cursor. What may not be seen now is
                # neither told nor named any more, so a resume leaves what is held as it is; whether
                # it goes is seen at the next cursor.
                continue
            elif version(row) < (oldest := min(span.version for span in possible)):
                text = f"{key} is held as v{version(row)}, the log has v{oldest} at {upto}"
                faults.append(("I1", text))
        return faults

    def _tell_application(self, record: Record, t: float) -> None:
        """The handler of the JavaScript client is told each thing once and in order."""
        if record["event"] == "init":
            listed = record["data"] if isinstance(record["data"], list) else [record["data"]]
            self._told = {self.view.key(row["id"]): row for row in listed if row}
            return
        for item in record["data"]:
            row = item if isinstance(item, dict) else None
            key = self.view.key(row["id"] if row else item)
            if key in self._told:
                known = self._told[key]
                if known == row:
                    self.tally.application_duplicates += 1
                    self._broken("I6", t, f"{record['event']} of {key} was told twice")
                elif known and row and version(row) < version(known):
                    self._broken("I3", t, f"the application saw {key} go back")
                elif known and record["event"] == "create":
                    self._broken("I6", t, f"{key} was created twice")
            self._told[key] = row

    def check_end(self, rest: Mapping[str, Row] | None, t: float) -> None:
        """Compare with what REST says at the end."""
        wanted = dict(rest or {})
        told = {key: row for key, row in self._told.items() if row is not None}
        for name, held in (("client", self.view.rows), ("application", told)):
            if name == "application" and not self._told:
                continue
            for key in sorted(wanted.keys() | held.keys()):
                if held.get(key) != wanted.get(key):
                    text = (
                        f"the {name} holds {_short(held.get(key))} of {key}, "
                        f"REST says {_short(wanted.get(key))}"
                    )
                    self._broken("I7", t, text)

    def _broken(self, check: str, t: float, text: str) -> None:
        self.violations.append(Violation(check, self.client, self.scope.name, t, text))


def _short(row: Row | None) -> str:
    if row is None:
        return "nothing"
    return str(row.get("title") or row.get("text") or row.get("name"))


def check_log(history: History) -> list[Violation]:
    """Hold the log to the writer's word: what was committed is in it, what was undone is not."""
    found = []
    every = {uuid for positions in history.positions for uuid in positions}
    for operation in history.operations:
        uuids = {uuid for uuid, _, _ in operation.entries}
        when, name = operation.end, operation.name
        if operation.outcome in {"undone", "failed"} and uuids & every:
            found.append(Violation("I2", "log", name, when, "it was undone and is in the log"))
        if operation.outcome == "ok" and uuids and not uuids & every:
            found.append(Violation("I1", "log", name, when, "it was committed; no log has it"))
    for index, epoch in enumerate(history.epochs):
        numbers = sorted(epoch.log)
        if numbers and numbers != list(range(numbers[0], numbers[-1] + 1)):
            text = f"the log of epoch {index} has holes"
            found.append(Violation("I4", "log", "", 0.0, text))
    return found


def check_resources(
    before: Sequence[Mapping[str, int]], after: Sequence[Mapping[str, int]], t: float
) -> list[Violation]:
    """Compare, server by server, what it held before anybody came and when all had gone."""
    found = []
    for number, (base, held) in enumerate(zip(before, after, strict=True)):
        for name, leeway in LEEWAY.items():
            if held[name] > base[name] + leeway:
                text = f"it holds {held[name]} {name}, before anybody came it was {base[name]}"
                found.append(Violation("I14", f"server{number}", "resources", t, text))
    return found


def follow(
    clients: list[Mapping[str, Any]],
    scopes: Mapping[str, Scope],
    records: list[Record],
    history: History,
    opened: Opened,
) -> dict[tuple[str, str], Subscription]:
    """Follow every subscription of every client through ``records``, which are in order of time."""
    made = {
        (client["id"], name): Subscription(client, scopes[name], history, opened)
        for client in clients
        for name in client["scopes"]
    }
    for record in records:
        names = [record["s"]] if "s" in record else [name for c, name in made if c == record["c"]]
        for name in names:
            made[record["c"], name].take(record)
    return made
