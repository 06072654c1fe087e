"""
What happened, from the writer's journals and the log: which operations are in the log, where, and
what each scope held at each position. Pure.

The log is read whole before a backup is put back over it; each such log is an epoch of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from tests.chaos.journal import Record
from tests.chaos.scopes import Scope

ATTRIBUTES = ("version", "live", "restricted", "parent", "kind")


@dataclass(frozen=True)
class Epoch:
    """One life of the log: its positions, and which stretch of time it lost when it began."""

    log: Mapping[int, str]  # position -> uuid
    began: float = -inf
    lost_from: float = inf  # the backup's time: what was done from here to ``began`` is undone

    def forgot(self, time: float) -> bool:
        return self.lost_from <= time < self.began


@dataclass
class Operation:
    """One operation of a writer, as its journal tells."""

    name: str
    begin: float
    end: float = inf
    outcome: str = "unknown"
    atomic: bool = True
    effects: list[Record] = field(default_factory=list)
    entries: list[tuple[str, str, str]] = field(default_factory=list)  # uuid, model, key

    def position(self, positions: Mapping[str, int]) -> int | None:
        """Return the position by which all of it has been told, in a log."""
        found = [positions[uuid] for uuid, _, _ in self.entries if uuid in positions]
        return max(found, default=None)

    @property
    def visible(self) -> bool:
        """Whether it says anything but drafts."""
        return any(
            "gone" in effect or "kind" in effect or "draft" not in effect for effect in self.effects
        )


def operations(journals: Iterable[list[Record]]) -> list[Operation]:
    """Return the operations in the order in which they ended."""
    made: list[Operation] = []
    for journal in journals:
        found: dict[str, Operation] = {}
        for record in journal:
            tx = record.get("tx")
            if record["kind"] == "begin":
                found[tx] = Operation(
                    record["op"], record["t"], atomic=record["atomic"], effects=record["effects"]
                )
            elif record["kind"] == "entry" and tx in found:
                found[tx].entries.append((record["uuid"], record["model"], record["key"]))
            elif record["kind"] == "end":
                ended = found[tx]
                ended.end, ended.outcome = record["t"], record["outcome"]
                ended.effects = record["effects"]
        last = max((record["t"] for record in journal), default=0.0)
        for operation in found.values():
            operation.end = min(operation.end, last)
            _name_the_new(operation)
        made += found.values()
    return sorted(made, key=lambda operation: operation.end)


def _name_the_new(operation: Operation) -> None:
    """A writer that was killed did not say which key its new object got; its entry does."""
    for effect in operation.effects:
        if effect["object"] == "?" and operation.entries:
            collection = "pages" if effect["kind"] == "article" else f"{effect['kind']}s"
            effect["object"] = f"{collection}:{operation.entries[0][2]}"


@dataclass(frozen=True)
class Span:
    """From ``position`` on, and perhaps since ``begin``, a scope held an object so."""

    position: int
    begin: float
    end: float
    holds: bool | None
    version: int
    operation: str = ""
    certain: bool = True


class Timeline:
    """What one scope held for one asker, object by object, in one epoch."""

    def __init__(self, beginning: Mapping[str, bool | None]) -> None:
        self.spans: dict[str, list[Span]] = {
            key: [Span(0, -inf, -inf, holds, 0)] for key, holds in beginning.items()
        }
        self._positions: list[tuple[int, str]] = []

    def add(self, key: str, span: Span) -> None:
        spans = self.spans.setdefault(key, [Span(0, -inf, -inf, False, 0)])
        # It is claimed only where all before it are: positions may cross, commits do not.
        position = max(span.position, spans[-1].position)
        spans.append(replace(span, position=position))
        self._positions.append((position, key))

    def close(self) -> None:
        self._positions.sort()

    def told_between(self, after: int, upto: int) -> set[str]:
        """Return the objects with spans after one position and up to another."""
        start = bisect_right(self._positions, (after, "\uffff"))
        stop = bisect_right(self._positions, (upto, "\uffff"))
        return {key for _, key in self._positions[start:stop]}

    def possible(self, key: str, position: int, now: float) -> list[Span]:
        """Return what a reading may have found that was made after ``position`` and until now."""
        spans = self.spans.get(key)
        if spans is None:
            return [Span(0, -inf, -inf, False, 0)]
        last = 0
        for index, span in enumerate(spans):
            if span.position <= position and span.certain:
                last = index
        return [spans[last], *(span for span in spans[last + 1 :] if span.begin <= now)]


class History:
    """All epochs of one run."""

    def __init__(
        self, world: Mapping[str, Record], made: list[Operation], epochs: list[Epoch]
    ) -> None:
        self.world = world
        self.operations = made
        self.epochs = epochs
        self.positions = [
            {uuid: position for position, uuid in epoch.log.items()} for epoch in epochs
        ]
        self._timelines: dict[tuple[str, str, int], Timeline] = {}
        #: (object, version) -> the operation that wrote it; drafts and undone ones too.
        self.written: dict[tuple[str, int], Operation] = {}
        self.drafted: dict[tuple[str, int], Operation] = {}
        for operation in made:
            for effect in operation.effects:
                if "draft" in effect:
                    self.drafted[effect["object"], effect["draft"]] = operation
                if effect.get("version"):
                    self.written[effect["object"], effect["version"]] = operation

    def epochs_of(self, position: int, uuid: str) -> list[int]:
        """Return the epochs whose log has this entry at this position."""
        return [index for index, epoch in enumerate(self.epochs) if epoch.log.get(position) == uuid]

    def happened(self, operation: Operation, epoch: int) -> bool | None:
        """Return whether an epoch's database holds what it did; None when that is not known."""
        life = self.epochs[epoch]
        if operation.outcome in {"undone", "failed"}:
            return False
        position = operation.position(self.positions[epoch])
        if operation.outcome == "ok":
            if operation.entries:
                return position is not None
            later = any(other.began <= operation.begin for other in self.epochs[epoch + 1 :])
            return not life.forgot(operation.end) and not later
        if position is None:
            return False
        return True if operation.atomic else None

    def timeline(self, scope: Scope, asker: str, epoch: int) -> Timeline:
        """Return what ``scope`` held for ``asker``."""
        wanted = scope.name, asker, epoch
        if wanted not in self._timelines:
            self._timelines[wanted] = self._replay(scope, asker, epoch)
        return self._timelines[wanted]

    def _replay(self, scope: Scope, asker: str, epoch: int) -> Timeline:
        objects = {key: dict(state) for key, state in self.world.items()}
        below: dict[str, set[str]] = defaultdict(set)
        for key, state in objects.items():
            below[state["parent"] or ""].add(key)
        line = Timeline({key: scope.holds(key, objects, asker) for key in objects})
        for operation in self.operations:
            happened = self.happened(operation, epoch)
            if happened is False or not operation.visible:
                continue
            position = operation.position(self.positions[epoch]) or 0
            touched: set[str] = set()
            for effect in operation.effects:
                if "gone" not in effect and "draft" in effect and "kind" not in effect:
                    continue
                touched |= _apply(effect, objects, below, certain=happened is True)
            for key in touched:
                version = objects[key]["version"] if key in objects else 0
                line.add(
                    key,
                    Span(
                        position,
                        operation.begin,
                        operation.end,
                        scope.holds(key, objects, asker),
                        version,
                        operation.name,
                        happened is True,
                    ),
                )
        line.close()
        return line


def _apply(
    effect: Record, objects: dict[str, Any], below: dict[str, set[str]], *, certain: bool
) -> set[str]:
    """Apply an effect; return the objects that may look different."""
    key = effect["object"]
    if "gone" in effect:
        objects.pop(key, None)
        return {key}
    beginning = {"live": True, "restricted": None, "parent": None, "version": 0}
    state = objects.setdefault(key, {"kind": effect.get("kind", "?"), **beginning})
    before = dict(state)
    state.update({name: effect[name] for name in ATTRIBUTES if name in effect})
    if not certain:
        state["version"] = before["version"]
        if state["live"] != before["live"]:
            state["live"] = None
    if state["parent"] != before["parent"] or state["parent"]:
        below[before["parent"] or ""].discard(key)
        below[state["parent"] or ""].add(key)
    return {key, *(below[key] if "restricted" in effect else ())}
