"""
Histories of relay, feeds, hub and sessions: whatever happens in whatever order, clients converge.

The real parts on a site in memory: no database, no threads, no clock. Thousands of histories are
made up, and each ends with the question whether every client holds what its query gives.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests import memory
from tests.memory import MemorySource, StillLoop, World
from wagtail_live import bell
from wagtail_live.cursor import Sealer, fingerprint
from wagtail_live.events import Audience, Batch, Missed, Position, Query, Snapshot
from wagtail_live.feed import Feed
from wagtail_live.hub import LiveQuery
from wagtail_live.outbox import Outbox
from wagtail_live.policy import Policy
from wagtail_live.relay import Relay
from wagtail_live.session import Session
from wagtail_live.tail import Tail

HISTORIES = int(os.environ.get("HISTORIES", "2000"))
#: A failing history is long; SHRINK=1 looks for the shortest that fails.
PHASES = [Phase.generate, *([Phase.shrink] if os.environ.get("SHRINK") else [])]
STEPS = 20
SECRET = "the secret of the machine"  # noqa: S105 - and of nothing else
QUERIES = {
    "all": Query("things"),
    "a": Query("things", (("section", "a"),)),
}
names = st.sampled_from(sorted(QUERIES))
keys = st.integers(1, 4)

LOOP = StillLoop()


class MemoryPolicy(Policy):
    def audience(self, request: Any) -> Audience:
        return Audience()


class Client:
    """
    One connection and what it holds: it applies frames as docs/reference/messages.md says.

    Kept between connections are the content and the cursor of each query.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.session: Session | None = None
        self.held: dict[str, dict[int, str]] = {}
        self.cursors: dict[str, str] = {}
        #: By uid: None until its first answer has come.
        self.following: dict[str, bool] = {}
        self.versions: dict[tuple[str, int], int] = {}
        self.expected: dict[str, str] = {}

    def connect(self) -> None:
        outbox = Outbox(self._take, max_bytes=10**9, overflow=lambda: None)
        request: Any = SimpleNamespace(COOKIES={}, headers={})
        self.session = LOOP.do(
            lambda: Session(request, self.machine.relay, outbox, lambda code: None, answers=False)
        )

    def disconnect(self) -> None:
        if self.session is not None:
            session, self.session = self.session, None
            self.following.clear()
            self.versions.clear()
            LOOP.do(session.close)

    def subscribe(self, name: str, cursor: str | None = None, reset: str = "") -> None:
        assert self.session is not None
        message: dict[str, Any] = {
            "type": "subscribe",
            "collection": "things",
            "query": dict(QUERIES[name].parameters),
            "uid": name,
        }
        if cursor is not None:
            message["cursor"] = cursor
        self.following[name] = False
        self.expected[name] = reset
        LOOP.do(partial(self.session.receive, json.dumps(message)))

    def unsubscribe(self, name: str) -> None:
        assert self.session is not None
        LOOP.do(partial(self.session.receive, json.dumps({"type": "unsubscribe", "uid": name})))

    async def _take(self, text: str) -> None:
        try:
            self._read(json.loads(text))
        except Exception as problem:  # an outbox takes it for a client that has gone
            self.machine.problems.append(problem)

    def _read(self, frame: dict[str, Any]) -> None:
        assert self.session is not None, "a frame after the end"
        name = frame["uid"]
        if frame.get("status") == "error":
            self.following.pop(name, None)
            self.cursors.pop(name, None)
            return
        event = frame["event"]
        if event == "unsubscribe":
            self.following.pop(name, None)
            return
        assert name in self.following, "a frame for what is not followed"
        if event in {"init", "resume"}:
            self._begin(name, frame)
        else:
            assert self.following[name], "a change before the base"
        if event == "init":
            self.held[name] = {}
        for row in frame.get("data", ()):
            self._apply(name, event, row)
        if "cursor" in frame:
            self._check_history(name, frame)
            self.cursors[name] = frame["cursor"]
            self.machine.remember(name, self.held[name], frame["cursor"])

    def _check_history(self, name: str, frame: dict[str, Any]) -> None:
        """What a frame shows was read from the database whose log its cursor is of."""
        mark = fingerprint(QUERIES[name], Audience())
        sealed = Sealer([SECRET]).open(frame["cursor"], mark)
        for row in frame.get("data", ()):
            if isinstance(row, dict):
                history = self.machine.world.histories[sealed.uuid]
                assert row["history"] == history, "content of another history"

    def _begin(self, name: str, frame: dict[str, Any]) -> None:
        if not self.following[name]:
            wanted = self.expected[name]
            if wanted == "unknown":  # or known to be older than what is kept
                assert frame.get("reset") in {"unknown", "expired"}, frame
            elif wanted:
                assert frame.get("reset") == wanted, frame
            if frame["event"] == "resume":
                assert name in self.held, "a resume without a base"
        else:
            assert frame.get("reset"), "a second answer that is no reset"
        self.following[name] = True
        if frame["event"] == "init":
            self.versions = {key: one for key, one in self.versions.items() if key[0] != name}

    def _apply(self, name: str, event: str, row: Any) -> None:
        world = self.machine.world
        if event == "delete":
            assert row in world.seen_keys, "the id of what was never to be seen"
            self.held[name].pop(row, None)
            return
        key, version = row["id"], row["version"]
        assert (key, version) in world.seen, "what was never to be seen"
        assert version >= self.versions.get((name, key), 0), "an object went back"
        self.versions[name, key] = version
        self.held[name][key] = json.dumps(row)


class Machine(RuleBasedStateMachine):
    """What can happen to a site that is followed."""

    count = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        LOOP.now = 0.0
        LOOP.jobs.clear()
        self.world = World()
        self.relay = Relay(MemorySource(self.world))
        self.clients = [Client(self), Client(self)]
        #: What somebody held once, with the cursor that said so.
        self.memories: list[tuple[str, dict[int, str], str]] = []
        self.problems: list[Exception] = []
        self.open: list[tuple[int, int, dict[str, Any]]] = []

    @initialize()
    def begin(self) -> None:
        for key in (1, 2):
            self.world.change(key)
        self.world.number()
        self.clients[0].connect()
        self.clients[0].subscribe("all")

    def remember(self, name: str, held: dict[int, str], cursor: str) -> None:
        self.memories.append((name, dict(held), cursor))

    def client(self, which: int) -> Client:
        return self.clients[which % len(self.clients)]

    # Content, and the log behind it.

    @rule(key=keys, section=st.sampled_from("ab"), loud=st.booleans())
    def write(self, key: int, section: str, loud: bool) -> None:
        self.world.change(key, live=True, section=section)
        self._commit(loud)

    @rule(key=keys, loud=st.booleans(), what=st.sampled_from(["gone", "live", "hidden"]))
    def take_away(self, key: int, what: str, loud: bool) -> None:
        if key in self.world.things:
            self.world.change(key, **{what: what != "live"})
            self._commit(loud)

    @rule(key=keys)
    def show(self, key: int) -> None:
        if key in self.world.things:
            self.world.change(key, live=True, hidden=False)
            self._commit(True)

    @rule(key=keys, mood=st.sampled_from(["calm", "angry"]), loud=st.booleans())
    def touch(self, key: int, mood: str, loud: bool) -> None:
        if key in self.world.things:
            self.world.touch(key, mood)
            self._commit(loud)

    @rule(key=keys, section=st.sampled_from("ab"))
    def insert_first(self, key: int, section: str) -> None:
        """A transaction takes its entry's id now and commits later."""
        self.open.append((self.world.reserve(), key, {"section": section}))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 3), really=st.booleans())
    def commit_last(self, which: int, really: bool) -> None:
        inserted, key, fields = self.open.pop(which % len(self.open))
        if really:
            self.world.change(key, inserted=inserted, **fields)
            self._commit(True)

    def _commit(self, loud: bool) -> None:
        """With ``loud`` the writer numbers its entry and the bell is heard."""
        if loud:
            self.world.number()
            bell.ring()
            LOOP.turn()

    @rule(times=st.integers(1, 3))
    def ring(self, times: int) -> None:
        for _ in range(times):
            bell.ring()
        LOOP.turn()

    @rule(keep=st.integers(0, 3))
    def prune(self, keep: int) -> None:
        self.world.prune(keep)

    @rule()
    def back_up(self) -> None:
        self.world.save()

    @precondition(lambda self: self.world.backup is not None)
    @rule(writes=st.integers(0, 6))
    def restore(self, writes: int) -> None:
        """As the how-to says: restore, begin a new epoch, go on writing."""
        self.world.restore()
        self.world.new_epoch()
        self.open.clear()
        for number in range(writes):
            self.world.change(number % 4 + 1)
        self.world.number()

    @rule()
    def new_epoch(self) -> None:
        self.world.new_epoch()

    # The process: its threads, its time, its troubles.

    @precondition(lambda self: LOOP.jobs)
    @rule(which=st.integers(0, 5))
    def work(self, which: int) -> None:
        LOOP.work(which)

    @rule()
    def work_all(self) -> None:
        LOOP.work_all()

    @rule(seconds=st.sampled_from([0.06, 1.1, 6.0]))
    def time_passes(self, seconds: float) -> None:
        LOOP.now += seconds
        LOOP.turn()

    @rule(times=st.sampled_from([1, 1, 2, 6]))
    def fail(self, times: int) -> None:
        self.world.failures = times

    @rule()
    def restart(self) -> None:
        for client in self.clients:
            client.disconnect()
        LOOP.jobs.clear()
        LOOP.run_until_complete(self.relay.close())
        self.relay = Relay(MemorySource(self.world))

    # The clients.

    @rule(which=st.integers(0, 1), name=names)
    def come(self, which: int, name: str) -> None:
        client = self.client(which)
        if client.session is None:
            client.connect()
        client.subscribe(name)

    @rule(which=st.integers(0, 1), name=names)
    def come_back(self, which: int, name: str) -> None:
        """With the last cursor, perhaps in the middle of what the former one brings."""
        client = self.client(which)
        client.disconnect()
        client.connect()
        client.subscribe(name, client.cursors.get(name))

    @precondition(lambda self: self.memories)
    @rule(which=st.integers(0, 1), memory=st.integers(0, 40))
    def come_back_from_long_ago(self, which: int, memory: int) -> None:
        name, held, cursor = self.memories[memory % len(self.memories)]
        client = self.client(which)
        client.disconnect()
        client.held[name], client.cursors[name] = dict(held), cursor
        client.connect()
        client.subscribe(name, cursor)

    @rule(
        which=st.integers(0, 1),
        name=names,
        kind=st.sampled_from(["future", "foreign", "tampered", "other query"]),
    )
    def come_with_a_bad_cursor(self, which: int, name: str, kind: str) -> None:
        client = self.client(which)
        client.disconnect()
        client.connect()
        mark = fingerprint(QUERIES[name], Audience())
        head = self.world.log.head
        bad = Sealer([SECRET]).seal(Position(head.number, "f" * 32), mark)
        reset = "unknown"
        match kind:
            case "future":
                bad = Sealer([SECRET]).seal(Position(head.number + 7, "f" * 32), mark)
            case "tampered":
                bad = bad[:50] + ("A" if bad[50] != "A" else "B") + bad[51:]
            case "other query":
                mark = fingerprint(Query("others"), Audience())
                bad, reset = Sealer([SECRET]).seal(head, mark), "other_query"
        client.held.pop(name, None)
        client.cursors.pop(name, None)
        client.subscribe(name, bad, reset)

    @rule(which=st.integers(0, 1))
    def go(self, which: int) -> None:
        self.client(which).disconnect()

    @rule(which=st.integers(0, 1), name=names)
    def unsubscribe(self, which: int, name: str) -> None:
        client = self.client(which)
        if client.session is not None:
            client.unsubscribe(name)

    # What must hold.

    @invariant()
    def nobody_was_told_wrong(self) -> None:
        for problem in self.problems:
            raise problem

    @invariant()
    def the_tail_is_the_log(self) -> None:
        entries = self.relay.past.tail._entries
        first = self.relay.past.tail.base.number + 1
        numbers = [entry.position.number for entry in entries]
        assert numbers == list(range(first, first + len(entries)))
        assert self.relay.past.tail.last == self.relay.hub.position

    @rule()
    def all_is_quiet(self) -> None:
        """No bell, no more trouble: the poll alone brings everybody up to date."""
        self.world.failures = 0
        LOOP.turn()
        LOOP.work_all()
        for _ in range(12):
            LOOP.wait(1.1)
        assert not self.relay.busy
        self.nobody_was_told_wrong()
        for client in self.clients:
            for name, based in client.following.items():
                assert based, "no answer"
                assert client.held[name] == self.world.rows(QUERIES[name]), "not converged"

    def teardown(self) -> None:
        try:
            self.all_is_quiet()
        finally:
            for client in self.clients:
                client.disconnect()
            LOOP.jobs.clear()
            LOOP.run_until_complete(self.relay.close())
            LOOP.jobs.clear()


@pytest.fixture(autouse=True)
def site(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("CRITICAL", "wagtail_live")
    with override_settings(
        WAGTAIL_LIVE_POLICY="tests.test_core_machine.MemoryPolicy",
        SECRET_KEY=SECRET,
    ):
        yield


def run(histories: int) -> int:
    Machine.count = 0
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            derandomize=True,
            database=None,
            deadline=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return Machine.count


def test_in_every_history_every_client_converges(capsys: pytest.CaptureFixture[str]) -> None:
    done = run(HISTORIES)
    with capsys.disabled():
        print(f"\nhistories of the core: {done}, of up to {STEPS} steps each")
    assert done >= HISTORIES


# What the machine must be able to find: mistakes that such a core could have.


def skip_a_batch(patch: pytest.MonkeyPatch) -> None:
    push = Feed.push

    def forgetful(self: Feed, batch: Batch) -> None:
        if batch.last.number % 3:
            push(self, batch)

    patch.setattr(Feed, "push", forgetful)


def forget_who_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LiveQuery, "left", lambda self, answer: set())


def forget_what_left_meanwhile(patch: pytest.MonkeyPatch) -> None:
    missed = MemorySource.missed

    def forgetful(self: MemorySource, *args: Any, **kwargs: Any) -> Missed:
        return replace(missed(self, *args, **kwargs), left=frozenset())

    patch.setattr(MemorySource, "missed", forgetful)


def keep_what_others_missed(patch: pytest.MonkeyPatch) -> None:
    """The look-up that is shared is not thrown away when something changes."""
    push = Feed.push

    def keeping(self: Feed, batch: Batch) -> None:
        kept = dict(self._missed)
        push(self, batch)
        self._missed.update(kept)

    patch.setattr(Feed, "push", keeping)
    patch.setattr(Tail, "step", lambda self, labels, position: 1)


def keep_an_old_snapshot(patch: pytest.MonkeyPatch) -> None:
    base = Feed._base

    async def keeping(self: Feed, live_query: LiveQuery) -> Snapshot:
        if not hasattr(self, "kept"):
            self.kept = await base(self, live_query)  # type: ignore[attr-defined]  # planted
        return self.kept  # type: ignore[attr-defined,no-any-return]  # planted

    patch.setattr(Feed, "_base", keeping)


def believe_every_cursor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Tail, "reaches", lambda self, at: self.base.number <= at.number <= self.last.number
    )


def follow_before_the_base(patch: pytest.MonkeyPatch) -> None:
    join = Feed.join

    async def eager(self: Feed, follower: Any, cursor: str | None) -> None:
        if self.live_query is not None:
            self.live_query.add(follower)
        await join(self, follower, cursor)

    patch.setattr(Feed, "join", eager)


def go_on_without_proof(patch: pytest.MonkeyPatch) -> None:
    def trusting(self: MemorySource, position: Position) -> list[Any]:
        log = self.world.log
        return [one for one in log.numbered if one.position.number > position.number][:3]

    patch.setattr(MemorySource, "since", trusting)


def seal_without_proof(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemorySource, "prove", lambda self, position: None)


def renew_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Feed, "renew", lambda self, last: None)


def show_what_is_hidden(patch: pytest.MonkeyPatch) -> None:
    def rows(self: memory.MemoryRepresentation) -> dict[Any, str]:
        history = self.world.history
        things = self.world.things.items()
        return {key: thing.row(key, history) for key, thing in things if thing.live}

    patch.setattr(memory.MemoryRepresentation, "rows", rows)


def keep_a_subscription_that_ended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Relay, "leave", lambda self, feed, follower: self._release(feed))


MISTAKES: list[Callable[[pytest.MonkeyPatch], None]] = [
    skip_a_batch,
    forget_who_left,
    forget_what_left_meanwhile,
    keep_what_others_missed,
    keep_an_old_snapshot,
    believe_every_cursor,
    follow_before_the_base,
    go_on_without_proof,
    seal_without_proof,
    renew_nobody,
    show_what_is_hidden,
    keep_a_subscription_that_ended,
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_planted_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        run(HISTORIES)
