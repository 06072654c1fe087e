"""
Non-interference: two histories that differ only in what is hidden from somebody give that one the
same frames, as long and in the same order, at every step.

In memory, with the real relay, feeds, hub and sessions: each history is told twice, with what is
hidden and without it. Wagtail's own rules, in a database, are those of ``test_access_matrix.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import memory
from tests.memory import LABEL, MemorySource, StillLoop
from wagtail_live import bell
from wagtail_live.events import Audience, Entry, Gap, Missed, Position, Query, Touched
from wagtail_live.hub import LiveQuery
from wagtail_live.outbox import Outbox
from wagtail_live.policy import Policy
from wagtail_live.relay import Relay
from wagtail_live.session import Session

PAIRS = int(os.environ.get("PAIRS", "1000"))
SECRET = "the secret of the pairs"  # noqa: S105 - and of nothing else
OPEN, HIDDEN = (1, 2, 3), (11, 12)

LOOP = StillLoop()
Step = tuple[Any, ...]


class Everybody(Policy):
    def audience(self, request: Any) -> Audience:
        return Audience()


class World(memory.World):
    """A thing may refer to another, and shows its version if that is to be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.refers = {1: 11, 2: 12, 3: 2}

    def change(self, key: int, inserted: int | None = None, **fields: Any) -> None:
        super().change(key, inserted, **fields)
        if key in self.things:
            # Counted by the thing itself: how much else happened would show in it.
            count = getattr(self, "counts", {})
            count[key] = count.get(key, 0) + 1
            self.counts = count
            self.things[key] = replace(self.things[key], version=count[key])

    def rows(self, query: Query) -> dict[int, str]:
        return {
            key: json.dumps({**json.loads(row), "refers_to": self._shown(self.refers.get(key))})
            for key, row in super().rows(query).items()
        }

    def _shown(self, key: int | None) -> int | None:
        thing = self.things.get(key or 0)
        return thing.version if thing is not None and thing.visible else None

    def is_noticed(self, entry: Entry) -> bool:
        thing = self.things.get(int(entry.object_id))
        return bool(entry.was and entry.was["visible"]) or (thing is not None and thing.visible)


class Source(MemorySource):
    """Follows what refers to what, and lets nobody notice what is hidden."""

    world: World

    def since(self, position: Position) -> list[Entry]:
        super().since(position)
        numbered = self.world.log.numbered
        return [entry for entry in numbered if entry.position.number > position.number]

    def touched(self, entries: Sequence[Entry]) -> Touched:
        changed = {int(entry.object_id): entry.position.number for entry in entries}
        for _ in range(2):
            for key, target in self.world.refers.items():
                if target in changed:
                    changed[key] = max(changed[target], changed.get(key, 0))
        steps = frozenset(entry.position.number for entry in entries)
        return Touched(changed={LABEL: dict(changed)}, steps={LABEL: steps})

    def unnoticed(self, *asked: Any) -> frozenset[Hashable]:
        _, _, entries, keys = asked
        return frozenset(keys) - self._noticed(entries)

    def missed(self, representation: Any, live_query: LiveQuery, gap: Gap, *, limit: int) -> Missed:
        missed = super().missed(representation, live_query, gap, limit=limit)
        noticed = self._noticed(gap.entries)
        updated = {key: row for key, row in missed.updated.items() if key in noticed}
        return replace(missed, updated=updated)

    def _noticed(self, entries: Sequence[Entry]) -> frozenset[Hashable]:
        seen = [entry for entry in entries if self.world.is_noticed(entry)]
        return frozenset(self.touched(seen).changed[LABEL])


class Reader:
    """Somebody who may not see what is hidden; keeps each frame with its cursor made equal."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.session: Session | None = None
        self.frames: list[str] = []
        self.cursor: str | None = None

    def come(self, query: Query, *, back: bool) -> None:
        self.go()
        outbox = Outbox(self._take, max_bytes=10**9, overflow=lambda: None)
        request: Any = SimpleNamespace(COOKIES={}, headers={})
        self.session = LOOP.do(
            lambda: Session(request, self.relay, outbox, lambda code: None, answers=False)
        )
        message: dict[str, Any] = {"type": "subscribe", "collection": "things", "uid": "a"}
        message["query"] = dict(query.parameters)
        if back and self.cursor is not None:
            message["cursor"] = self.cursor
        LOOP.do(partial(self.session.receive, json.dumps(message)))

    def go(self) -> None:
        if self.session is not None:
            LOOP.do(self.session.close)
            self.session = None

    async def _take(self, text: str) -> None:
        cursor = json.loads(text).get("cursor")
        if cursor is not None:
            self.cursor = cursor
            text = text.replace(cursor, "c" * len(cursor))
        self.frames.append(text)


def tell(history: list[list[Step]], keys: tuple[int, ...]) -> list[list[str]]:
    """Return the frames of each step, of a history with the changes of ``keys`` alone."""
    LOOP.now = 0.0
    LOOP.jobs.clear()
    world = World()
    relay = Relay(Source(world))
    reader = Reader(relay)
    told = []
    try:
        for step in history:
            for what, *arguments in step:
                match what:
                    case "change" if arguments[0] in keys:
                        key, fields = arguments
                        if key in world.things or "gone" not in fields:
                            world.change(key, **{**fields, "hidden": key in HIDDEN})
                    case "touch" if arguments[0] in keys and arguments[0] in world.things:
                        world.touch(arguments[0], arguments[1])
                    case "come" | "come back":
                        (section,) = arguments
                        query = Query("things", (("section", section),) if section else ())
                        reader.come(query, back=what == "come back")
                    case "go":
                        reader.go()
            settle(world, relay)
            told.append(reader.frames[:])
            reader.frames.clear()
    finally:
        reader.go()
        LOOP.jobs.clear()
        LOOP.run_until_complete(relay.close())
        LOOP.jobs.clear()
    return told


def settle(world: World, relay: Relay) -> None:
    world.number()
    bell.ring()
    LOOP.turn()
    LOOP.work_all()
    LOOP.wait(1.1)
    assert not relay.busy


changes = st.tuples(
    st.just("change"),
    st.sampled_from(OPEN + HIDDEN),
    st.sampled_from([{}, {"section": "b"}, {"section": "a"}, {"live": False}, {"live": True}]),
)
gone = st.tuples(st.just("change"), st.sampled_from(OPEN + HIDDEN), st.just({"gone": True}))
touches = st.tuples(
    st.just("touch"), st.sampled_from(OPEN + HIDDEN), st.sampled_from(["calm", "angry"])
)
comings = st.tuples(st.sampled_from(["come", "come back", "come back"]), st.just(""))
steps = st.one_of(changes, changes, gone, touches, comings, st.tuples(st.just("go")))
histories = st.lists(st.lists(steps, min_size=1, max_size=4), min_size=1, max_size=8).map(
    lambda made: [
        [("change", key, {}) for key in OPEN + HIDDEN],
        [("come", "")],
        *made,
        [("come back", "")],
        [("touch", key, "glad") for key in HIDDEN],
    ]
)


@pytest.fixture(autouse=True, scope="module")
def loop() -> Iterator[None]:
    yield
    LOOP.close()


@pytest.fixture(autouse=True)
def site(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("CRITICAL", "wagtail_live")
    with override_settings(
        WAGTAIL_LIVE_POLICY="tests.test_access_noninterference.Everybody", SECRET_KEY=SECRET
    ):
        yield


def compare(pairs: int) -> int:
    """Tell histories with and without what is hidden; return how many."""
    count = 0

    @settings(
        max_examples=pairs,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, *([Phase.shrink] if os.environ.get("SHRINK") else [])],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def each(history: list[list[Step]]) -> None:
        nonlocal count
        count += 1
        assert tell(history, OPEN + HIDDEN) == tell(history, OPEN)

    each()
    return count


def test_what_is_hidden_changes_no_frame(capsys: pytest.CaptureFixture[str]) -> None:
    done = compare(PAIRS)
    with capsys.disabled():
        print(f"\npairs of histories that differ in what is hidden: {done}")
    assert done >= PAIRS


# What the pairs must be able to find.


def tell_what_everybody_has(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LiveQuery, "_is_known", lambda self, key, row: False)


def tell_of_what_nobody_can_notice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Source, "unnoticed", lambda self, *asked: frozenset())
    patch.setattr(LiveQuery, "_remember", lambda self, rows: None)


def replay_what_nobody_can_notice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Source, "missed", MemorySource.missed)


def move_the_cursor_for_nothing(patch: pytest.MonkeyPatch) -> None:
    settle = LiveQuery.settle

    def restless(self: LiveQuery, answer: Any, cursor: str, *more: Any) -> None:
        settle(self, answer, cursor, *more)
        for follower in self:
            follower.outbox.write(json.dumps({"cursor": cursor}))

    patch.setattr(LiveQuery, "settle", restless)


def show_what_is_referred_to(patch: pytest.MonkeyPatch) -> None:
    def shown(self: World, key: int | None) -> int | None:
        thing = self.things.get(key or 0)
        return thing and thing.version

    patch.setattr(World, "_shown", shown)


LEAKS: list[Callable[[pytest.MonkeyPatch], None]] = [
    tell_what_everybody_has,
    tell_of_what_nobody_can_notice,
    replay_what_nobody_can_notice,
    move_the_cursor_for_nothing,
    show_what_is_referred_to,
]


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_a_planted_leak_is_found(
    leak: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    leak(monkeypatch)
    with pytest.raises(AssertionError):
        compare(PAIRS)
