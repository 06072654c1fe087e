"""
The newest entries of the log, in memory: what most of those who come back have missed.

Dense, proven by uuid like the log itself, and bounded. It remembers what the entries touched too,
so that whether somebody missed anything needs no query. Pure: told what was read, asks nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from wagtail_live.events import Batch, Entry, Gap, Position, Touched
from wagtail_live.exceptions import BadCursor

#: So many entries are kept, and so many keys that they touched. Beyond, the older half goes.
ENTRIES_LIMIT = 2000
KEYS_LIMIT = 100_000

K = TypeVar("K", bound=Hashable)


class Tail:
    """
    The entries after ``base`` up to ``last``, both included in what it can prove.

    Positions count up by one, so an entry's place in it follows from its number.
    """

    def __init__(self, position: Position) -> None:
        self.base = position
        self._entries: list[Entry] = []
        self._changed: dict[str, dict[Hashable, int]] = defaultdict(dict)
        self._compare: dict[str, int] = {}
        self._renew: dict[str, int] = {}
        self._access: dict[str, int] = {}
        self._steps: dict[str, set[int]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def last(self) -> Position:
        """Return the position of the newest entry."""
        return self._entries[-1].position if self._entries else self.base

    def reaches(self, position: Position) -> bool:
        """
        Return whether it holds everything after ``position``.

        Raises ``BadCursor`` when it does, and ``position`` is of another log.
        """
        if not self.base.number <= position.number <= self.last.number:
            return False
        if self._at(position.number) != position:
            raise BadCursor("unknown")
        return True

    def gap(self, position: Position) -> Gap:
        """Return everything after ``position``, which it reaches."""
        entries = tuple(islice(self._entries, position.number - self.base.number, None))
        return Gap(entries, self._batch(position))

    def step(self, labels: Iterable[str], position: Position) -> int | None:
        """
        Return the number of the first entry after ``position`` that touched one of ``labels``.

        Who is at the same step has missed the same.
        """
        later = (
            number for label in labels for number in self._steps[label] if number > position.number
        )
        return min(later, default=None)

    def extend(self, entries: Sequence[Entry], touched: Touched) -> None:
        """Take the entries that follow ``last``, and what they touched."""
        self._entries += entries
        self._remember(touched)
        self._shorten()

    def reach_back(self, base: Position, entries: Sequence[Entry], touched: Touched) -> None:
        """Take the entries after ``base`` up to the present base, and what they touched."""
        self._entries[:0] = entries
        self.base = base
        self._remember(touched)
        self._shorten()

    def _at(self, number: int) -> Position:
        index = number - self.base.number
        return self._entries[index - 1].position if index else self.base

    def _batch(self, position: Position) -> Batch:
        after = position.number
        changed = {label: _later(keys, after) for label, keys in self._changed.items()}
        return Batch(
            before=position,
            last=self.last,
            changed={label: keys for label, keys in changed.items() if keys},
            compare=_later(self._compare, after),
            renew=_later(self._renew, after),
            access=_later(self._access, after),
        )

    def _remember(self, touched: Touched) -> None:
        for label, keys in touched.changed.items():
            _newest(self._changed[label], keys)
        _newest(self._compare, touched.compare)
        _newest(self._renew, touched.renew)
        _newest(self._access, touched.access)
        for label, numbers in touched.steps.items():
            self._steps[label] |= numbers

    def _shorten(self) -> None:
        while self._entries and (len(self._entries) > ENTRIES_LIMIT or self._keys() > KEYS_LIMIT):
            gone = (len(self._entries) + 1) // 2
            self.base = self._entries[gone - 1].position
            del self._entries[:gone]
            self._forget(self.base.number)

    def _keys(self) -> int:
        return sum(map(len, self._changed.values()))

    def _forget(self, number: int) -> None:
        """Forget what nothing after ``number`` touched."""
        for keys in self._changed.values():
            _drop(keys, number)
        _drop(self._compare, number)
        _drop(self._renew, number)
        _drop(self._access, number)
        for label, numbers in self._steps.items():
            self._steps[label] = {one for one in numbers if one > number}


def _newest(known: dict[K, int], found: Mapping[K, int]) -> None:
    for key, number in found.items():
        known[key] = max(number, known.get(key, 0))


def _later(found: Mapping[K, int], number: int) -> frozenset[K]:
    return frozenset(key for key, newest in found.items() if newest > number)


def _drop(found: dict[K, int], number: int) -> None:
    for key in [key for key, newest in found.items() if newest <= number]:
        del found[key]
