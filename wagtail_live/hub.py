"""
Live queries and their followers: told what changed, asks nothing, encodes once, writes to all.

Pure: it does no I/O of its own (an outbox does), knows neither the database nor the loop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Set
from dataclasses import dataclass
from hashlib import blake2b

from wagtail_live import protocol
from wagtail_live.events import Answer, Audience, Batch, Missed, Position, Query, Snapshot
from wagtail_live.exceptions import LiveError
from wagtail_live.outbox import Outbox

#: Query parameters that name another page: when that page changes, the whole answer may.
ANCHORS = ("ancestor_of", "child_of", "descendant_of", "translation_of")
#: Of so many rows it is remembered how they were told, by some 200 bytes each.
DIGESTS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Follower:
    """
    One subscription of one client; its first answer advises ``reconnect_seconds``. ``had``: the
    keys it was told of with other rights than it has now; what it lost is taken back first.
    """

    outbox: Outbox
    uid: str | None
    event: protocol.Event | None
    ended: Callable[[], None]
    reconnect_seconds: int | None = None
    had: frozenset[Hashable] | None = None

    def take_back(self, keys: Set[Hashable]) -> None:
        """Tell that ``keys`` are not to be seen any more."""
        for text in _frames(_changes((), (), keys), self.uid, self.event, cursor=None):
            self.outbox.write(text)


@dataclass(frozen=True, slots=True)
class Question:
    """
    What to look up for a live query: these keys, or everything (``compare``, ``renew``). What is
    renewed is so for a reason.
    """

    keys: frozenset[Hashable]
    compare: bool = False
    renew: str | None = None


class LiveQuery:
    """
    (collection, query, audience): the unit of evaluation. Any number of followers share it.

    ``held`` is "before": every key that some follower may have. It only ever errs on the side of
    too many, so that a ``delete`` may repeat but is never missed.
    """

    def __init__(self, query: Query, audience: Audience, label: str, tree: str) -> None:
        """``label``: the model whose changes matter; ``tree``: the label that all pages have."""
        self.query = query
        self.audience = audience
        self.label = label
        self.tree = tree
        self.held: set[Hashable] = set()
        #: What is held because somebody came with it, before its change was told to the others.
        self._untold: set[Hashable] = set()
        self.anchors: frozenset[Hashable] = frozenset()
        self.followers: dict[tuple[str | None, protocol.Event | None], set[Follower]] = defaultdict(
            set
        )
        #: By key a digest of the row that all followers have who have one; the oldest come first.
        self._digests: dict[Hashable, bytes] = {}
        #: When followers came back that may know more than has been told here.
        self._returned: dict[Follower, float] = {}
        self._names = _named_pages(query)

    @property
    def labels(self) -> frozenset[str]:
        """The labels of a batch that can touch this query; a page that it leans on has any type."""
        leans = self.query.item is not None or self._names
        return frozenset({self.label, self.tree} if leans else {self.label})

    def __len__(self) -> int:
        return sum(map(len, self.followers.values()))

    def __iter__(self) -> Iterator[Follower]:
        for group in self.followers.values():
            yield from group

    def add(self, follower: Follower) -> None:
        self.followers[follower.uid, follower.event].add(follower)

    def discard(self, follower: Follower) -> None:
        self._returned.pop(follower, None)
        group = self.followers.get((follower.uid, follower.event))
        if group is not None:
            group.discard(follower)
            if not group:
                del self.followers[follower.uid, follower.event]

    def learn(self, keys: Iterable[Hashable]) -> None:
        """Hold ``keys`` too: who joins has them. To those who follow they are still new."""
        unknown = set(keys) - self.held
        if self.followers:
            self._untold |= unknown
        self.held |= unknown

    def widen(self, snapshot: Snapshot) -> None:
        """Hold what ``snapshot`` holds too: who joins has that, and nothing that left before it."""
        self._untold |= self.held - snapshot.held
        self.learn(snapshot.held)
        self.anchors = snapshot.anchors
        if self.followers:
            self._doubt(snapshot.rows)
        else:
            self._remember(snapshot.rows)

    @property
    def told(self) -> Set[Hashable]:
        """What is held, less what is still new to some follower."""
        return self.held - self._untold if self._untold else self.held

    def question(self, batch: Batch) -> Question | None:
        """Return what ``batch`` makes worth looking up, or None when it cannot touch this query."""
        if self.label in batch.access:
            return Question(frozenset(), renew="access_changed")
        if self.label in batch.renew:
            return Question(frozenset(), renew="renewed")
        keys = batch.changed.get(self.label, frozenset())
        if self.label in batch.compare or self._leans_on(batch):
            return Question(keys, compare=True)
        if self.query.item is not None:
            own: frozenset[Hashable] = frozenset({self.query.item})
            keys = own if self.anchors & batch.changed.get(self.tree, frozenset()) else keys & own
        return Question(keys) if keys else None

    def _leans_on(self, batch: Batch) -> bool:
        if not self._names:
            return False
        touched = batch.changed.get(self.tree, frozenset())
        return bool(touched) and ("root" in self._names or bool(self._names & touched))

    def doubtful(self, answer: Answer) -> frozenset[Hashable]:
        """Return the keys of rows of which some follower may have exactly this one, or not."""
        told = self.told
        return frozenset(
            key
            for key, row in answer.rows.items()
            if key in told
            and (key not in self._digests or (self._returned and self._is_known(key, row)))
        )

    def settle(
        self,
        answer: Answer,
        cursor: str,
        quiet: Set[Hashable] = frozenset(),
        proven: float = float("inf"),
    ) -> None:
        """
        Send what ``answer`` changes to every follower; the last frame carries ``cursor``.

        A row that they have already is not sent again, nor one in ``quiet``: of what they can
        notice nothing happened to it. Who came back not before ``proven`` may have been told
        something newer elsewhere, and gets known rows too.
        """
        told = self.told
        left = self.left(answer)
        created = {key: row for key, row in answer.rows.items() if key not in told}
        updated = {key: row for key, row in answer.rows.items() if key in told and key not in quiet}
        changed = {key: row for key, row in updated.items() if not self._is_known(key, row)}
        self._untold.difference_update(answer.rows, left)
        self.held.difference_update(left)
        self.held.update(answer.rows)
        if answer.rows:
            self.anchors = answer.anchors
        for key in left:
            self._digests.pop(key, None)
        self._remember((*created.items(), *changed.items()))
        frames = _told(_changes(created.values(), changed.values(), left), answer.events)
        behind = {follower for follower, since in self._returned.items() if since >= proven}
        self._returned = {follower: self._returned[follower] for follower in behind}
        more = frames
        if behind:
            more = _told(_changes(created.values(), updated.values(), left), answer.events)
        for (uid, event), group in self.followers.items():
            _write(group - behind, _frames(frames, uid, event, cursor))
            if behind:
                _write(group & behind, _frames(more, uid, event, cursor))

    def left(self, answer: Answer) -> set[Hashable]:
        """Return the keys that the query held and, by ``answer``, holds no more."""
        if answer.held is None:
            return (self.held & answer.asked) - answer.rows.keys()
        return self.held - answer.held

    def resume(
        self, follower: Follower, missed: Missed, cursor: str, now: float = float("-inf")
    ) -> None:
        """Give a follower that came back ``now`` what it missed, and count it in."""
        self.learn((*missed.created, *missed.updated))
        self._doubt((*missed.created.items(), *missed.updated.items()))
        self._returned[follower] = now
        changes = _told(
            _changes(missed.created.values(), missed.updated.values(), missed.left), missed.events
        )
        texts = _frames(changes, follower.uid, follower.event, cursor)
        follower.outbox.write(
            protocol.subscription(
                "resume",
                uid=follower.uid,
                cursor=None if texts else cursor,
                reconnect_seconds=follower.reconnect_seconds,
            )
        )
        for text in texts:
            follower.outbox.write(text)
        self.add(follower)

    def renew(self, snapshot: Snapshot, reason: str, cursor: str) -> None:
        """Give every follower a fresh base; what it may not see any more is taken back before."""
        if reason == "access_changed":
            self.take_back(self.told - snapshot.held)
        self.rebase(snapshot)
        for (uid, event), group in self.followers.items():
            frame = self.base(snapshot, uid, event, cursor, reset=reason)
            for follower in group:
                follower.outbox.write(frame)

    def take_back(self, keys: Set[Hashable]) -> None:
        """Tell every follower that ``keys`` are not to be seen any more."""
        for follower in self:
            follower.take_back(keys)

    def rebase(self, snapshot: Snapshot) -> None:
        """Take ``snapshot`` as what followers have from now on."""
        self.held = set(snapshot.held)
        self._untold.clear()
        self._digests.clear()
        self._returned.clear()
        self._remember(snapshot.rows)
        self.anchors = snapshot.anchors

    def base(
        self,
        snapshot: Snapshot,
        uid: str | None,
        event: protocol.Event | None,
        cursor: str,
        reset: str | None = None,
        reconnect_seconds: int | None = None,
    ) -> str:
        """Return the ``init`` frame of ``snapshot``."""
        data, total_count = None, None
        if event is None:
            rows = [row for _, row in snapshot.rows]
            if self.query.item is not None:
                data = rows[0] if rows else "null"
            else:
                data, total_count = _array(rows), len(snapshot.held)
        return protocol.subscription(
            "init",
            uid=uid,
            data=data,
            cursor=cursor,
            reset=reset,
            total_count=total_count,
            reconnect_seconds=reconnect_seconds,
        )

    def end(self, problem: LiveError) -> None:
        """Tell every follower that this live query cannot go on."""
        for (uid, _), group in list(self.followers.items()):
            frame = protocol.error("subscription", problem, uid)
            for follower in list(group):
                follower.outbox.write(frame)
                follower.ended()
        self.followers.clear()
        self._returned.clear()

    def _is_known(self, key: Hashable, row: str) -> bool:
        return self._digests.get(key) == _digest(row)

    def _remember(self, rows: Iterable[tuple[Hashable, str]]) -> None:
        for key, row in rows:
            self._digests.pop(key, None)
            self._digests[key] = _digest(row)
        while len(self._digests) > DIGESTS_LIMIT:
            del self._digests[next(iter(self._digests))]

    def _doubt(self, rows: Iterable[tuple[Hashable, str]]) -> None:
        """Somebody comes with ``rows``: forget how those were told that others have otherwise."""
        for key, row in rows:
            if not self._is_known(key, row):
                self._digests.pop(key, None)


class Hub:
    """The live queries of this process, found by what they follow and by what can touch them."""

    def __init__(self) -> None:
        self._queries: dict[tuple[Query, Audience], LiveQuery] = {}
        self._by_label: dict[str, set[LiveQuery]] = defaultdict(set)
        self.position = Position(0, "")

    def __len__(self) -> int:
        return len(self._queries)

    def __iter__(self) -> Iterator[LiveQuery]:
        return iter(list(self._queries.values()))

    def get(self, query: Query, audience: Audience) -> LiveQuery | None:
        return self._queries.get((query, audience))

    def add(self, live_query: LiveQuery) -> None:
        self._queries[live_query.query, live_query.audience] = live_query
        for label in live_query.labels:
            self._by_label[label].add(live_query)

    def remove(self, live_query: LiveQuery) -> None:
        self._queries.pop((live_query.query, live_query.audience), None)
        for label in live_query.labels & self._by_label.keys():
            self._by_label[label].discard(live_query)
            if not self._by_label[label]:
                del self._by_label[label]

    def touched(self, batch: Batch) -> list[LiveQuery]:
        """Return the live queries that ``batch`` may touch."""
        labels = {*batch.changed, *batch.compare, *batch.renew, *batch.access}
        found = {
            live_query
            for label in labels & self._by_label.keys()
            for live_query in self._by_label[label]
        }
        return [live_query for live_query in found if live_query.question(batch) is not None]


def _changes(
    created: Iterable[str], updated: Iterable[str], left: Iterable[Hashable]
) -> list[tuple[str, str]]:
    """Return (event, data as JSON text) for what there is."""
    frames = [
        ("delete", protocol.dumps(sorted(left, key=_natural))),
        ("create", _array(created)),
        ("update", _array(updated)),
    ]
    return [(event, data) for event, data in frames if data != "[]"]


def _told(changes: list[tuple[str, str]], events: Set[str] | None) -> list[tuple[str, str]]:
    """Return the ``changes`` that may be told: those of ``events``, None for all."""
    return [change for change in changes if events is None or change[0] in events]


def _frames(
    changes: list[tuple[str, str]],
    uid: str | None,
    wanted: protocol.Event | None,
    cursor: str | None,
) -> list[str]:
    """Return the frames of one change. Only the last has the cursor: before it not all is there."""
    chosen = [change for change in changes if wanted is None or change[0] == wanted]
    return [
        protocol.subscription(
            event, uid=uid, data=data, cursor=cursor if index == len(chosen) else None
        )
        for index, (event, data) in enumerate(chosen, start=1)
    ]


def _write(followers: Iterable[Follower], texts: list[str]) -> None:
    for follower in followers:
        for text in texts:
            follower.outbox.write(text)


def _digest(row: str) -> bytes:
    return blake2b(row.encode(), digest_size=16).digest()


def _natural(key: Hashable) -> tuple[int, int, str]:
    return (0, key, "") if isinstance(key, int) else (1, 0, str(key))


def _array(rows: Iterable[str]) -> str:
    return "[" + ",".join(rows) + "]"


def _named_pages(query: Query) -> frozenset[Hashable]:
    values = {value for name, value in query.parameters if name in ANCHORS}
    return frozenset(int(value) if value.isdecimal() else value for value in values)
