"""
Where a relay reads: the log, and the content that it speaks of. All of it blocks.

One door for all that following needs of the database, so that it can be driven without one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from wagtail_live import head, history, impact, numbering, retention, rules, tickets
from wagtail_live.events import Audience, Entry, Gap, Kind, Missed, Position, Query, Touched
from wagtail_live.hub import LiveQuery
from wagtail_live.missed import missed
from wagtail_live.noticed import unnoticed
from wagtail_live.representation import Representation


class Source:
    """The database. Call its methods through ``database.run``."""

    def number(self) -> bool:
        """Number what is committed; return whether entries are left because others are at it."""
        while numbering.has_unnumbered():
            if not numbering.number(wait=False):
                return numbering.has_unnumbered()
        return False

    def head(self) -> Position:
        """Return the position of the newest numbered entry."""
        return head.position()

    def since(self, position: Position) -> list[Entry]:
        """Return what follows ``position``, some at a time, or raise ``BadCursor``."""
        found = history.since(position)
        if any(entry.kind is Kind.RIGHTS and not entry.object_id for entry in found):
            self.forget()
        return found

    def forget(self) -> None:
        """Remember nothing of before: the log may have said something else. Does not block."""
        rules.forget()

    def until(self, position: Position, *, limit: int) -> tuple[Position, list[Entry]]:
        """Return the last entries up to ``position`` and what is before the first of them."""
        return history.until(position, limit=limit)

    def prove(self, position: Position) -> None:
        """Raise ``BadCursor`` unless the log still holds, or ends at, exactly ``position``."""
        history.prove(position)

    def touched(self, entries: Sequence[Entry]) -> Touched:
        """Return what ``entries`` may have touched."""
        return impact.touched(entries)

    def representation(self, query: Query, audience: Audience) -> Representation:
        """Return what ``query`` shows ``audience``."""
        return Representation(query, audience, rules.remembered)

    def missed(
        self, representation: Representation, live_query: LiveQuery, gap: Gap, *, limit: int
    ) -> Missed:
        """Return what a client missed in ``gap``, or raise ``BadCursor``."""
        return missed(representation, live_query, gap, limit=limit)

    def unnoticed(
        self,
        representation: Representation,
        live_query: LiveQuery,
        entries: Sequence[Entry],
        keys: frozenset[Hashable],
    ) -> frozenset[Hashable]:
        """Return those of ``keys`` that ``entries`` touched only through what is hidden."""
        return unnoticed(representation, live_query, entries, keys)

    def prune(self) -> None:
        """Delete what is older than the retention time."""
        retention.prune()
        tickets.prune()
