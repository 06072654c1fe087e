"""The vocabulary of the flow: frozen values without behaviour of their own. Knows no Django."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What an entry says happened."""

    SAVE = "save"  #: the object, a child of it or its many-to-many relations were written
    DELETE = "delete"  #: the object and, for a page, its whole subtree are gone
    ACCESS = "access"  #: who may see the object and what lies below it has changed
    SITE = "site"  #: a site or a locale changed: addresses and trees of everything may differ
    RIGHTS = "rights"  #: what the user, group or token may do, or the session's end; no id: all


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log: a dense number, and the uuid (hex) of the entry that has it."""

    number: int
    uuid: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the log. ``was`` holds the visibility before the change, never content."""

    position: Position
    kind: Kind
    model: str
    object_id: str
    was: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Query:
    """What is followed: a collection, its query parameters in canonical order, perhaps one item."""

    collection: str
    parameters: tuple[tuple[str, str], ...] = ()
    item: int | None = None


@dataclass(frozen=True, slots=True)
class Audience:
    """
    The asker, reduced to what the answer depends on. Equal audiences share one evaluation.

    The defaults are the public. ``token`` is the id of the API token that was used; ``collections``
    are those that may be followed, None for all. ``extra`` is for a site's own policy: any hashable
    values with a stable ``repr``, sorted where they come from a set. ``by_collection``: who the
    asker is to the policies of collections that see somebody else than the site's policy does.
    """

    site: int | None = None
    authenticated: bool = False
    superuser: bool = False
    groups: tuple[int, ...] = ()
    passed_pages: tuple[int, ...] = ()
    passed_collections: tuple[int, ...] = ()
    token: int | None = None
    collections: tuple[str, ...] | None = None
    extra: tuple[Hashable, ...] = ()
    by_collection: tuple[tuple[str, Audience], ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """
    What a run of entries may have touched, by model label (``newsroom.articlepage``).

    ``changed``: keys to look at. ``compare``: labels whose live queries must be compared as a
    whole. ``renew``: labels whose live queries start again from a fresh snapshot; ``access``: those
    that do because other things may be seen now.
    """

    before: Position
    last: Position
    changed: Mapping[str, frozenset[Hashable]] = field(default_factory=dict)
    compare: frozenset[str] = frozenset()
    renew: frozenset[str] = frozenset()
    access: frozenset[str] = frozenset()

    def merge(self, later: Batch) -> Batch:
        """Return one batch that says what this one and the ``later`` one say together."""
        changed = dict(self.changed)
        for label, keys in later.changed.items():
            changed[label] = changed.get(label, frozenset()) | keys
        return Batch(
            before=self.before,
            last=later.last,
            changed=changed,
            compare=self.compare | later.compare,
            renew=self.renew | later.renew,
            access=self.access | later.access,
        )


@dataclass(frozen=True, slots=True)
class Touched:
    """
    What a run of entries may have touched, and the number of the newest entry that did.

    ``changed`` by label and key, the others by label: see ``Batch``. ``steps``: by
    label, the number of every entry between which what was missed differs.
    """

    changed: Mapping[str, Mapping[Hashable, int]] = field(default_factory=dict)
    compare: Mapping[str, int] = field(default_factory=dict)
    renew: Mapping[str, int] = field(default_factory=dict)
    access: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def batch(self, before: Position, last: Position) -> Batch:
        """Return all of it, as what came after ``before`` up to ``last``."""
        return Batch(
            before=before,
            last=last,
            changed={label: frozenset(keys) for label, keys in self.changed.items() if keys},
            compare=frozenset(self.compare),
            renew=frozenset(self.renew),
            access=frozenset(self.access),
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """Everything between a client's position and here: the entries, and what they touched."""

    entries: tuple[Entry, ...]
    batch: Batch


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The base of a live query: every key it holds, the rows of its first page as JSON text."""

    held: frozenset[Hashable]
    rows: tuple[tuple[Hashable, str], ...]
    anchors: frozenset[Hashable] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a live query holds now of the keys that were asked about.

    ``rows``: JSON text by key. ``held`` is None when only the asked keys were looked at, else all
    keys the query holds. ``anchors``: keys the rows lean on (a detail's parent). ``too_many``:
    more rows than one change may carry; they are left out, and a fresh snapshot is due.
    ``events``: what the audience is told of it, None for everything.
    """

    asked: frozenset[Hashable]
    rows: Mapping[Hashable, str]
    held: frozenset[Hashable] | None = None
    anchors: frozenset[Hashable] = frozenset()
    too_many: bool = False
    events: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """
    What a returning client missed: rows as JSON text, keys that left, and up to where. ``events``:
    what the audience is told of it, None for everything.
    """

    created: Mapping[Hashable, str]
    updated: Mapping[Hashable, str]
    left: frozenset[Hashable]
    last: Position
    events: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class LogState:
    """
    How the log is. Ages are in seconds, 0 when there is no such entry.

    ``head`` and ``floor``: positions of the newest numbered and the newest pruned entry.
    ``unnumbered``: committed entries without a position, counted up to a bound; ``first`` is the
    id of the first, which has waited for ``waiting_seconds``. ``oldest_seconds``: the oldest entry.
    """

    head: int
    floor: int
    unnumbered: int
    first: int | None
    waiting_seconds: float
    oldest_seconds: float

    @property
    def entries(self) -> int:
        """How many entries the log holds: positions are dense."""
        return self.head - self.floor + self.unnumbered
