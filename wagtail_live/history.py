"""
The log's history: its numbered entries in order, and the proof that a position is one of them.

Reads only. A position is proven by its uuid: that of a restored backup or of another log is not.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from wagtail_live import head, numbering
from wagtail_live.events import Entry, Kind, LogState, Position
from wagtail_live.exceptions import BadCursor
from wagtail_live.models import Entry as EntryRow

READ_LIMIT = 500
#: More entries without a position are not counted.
COUNT_LIMIT = 10_000


def read(after: int, *, limit: int = READ_LIMIT) -> list[Entry]:
    """Return the entries after position ``after``, in order, at most ``limit``."""
    rows = EntryRow.objects.using(head.database()).filter(position__gt=after)
    return _entries(rows.order_by("position")[:limit])


def since(position: Position, *, limit: int = READ_LIMIT) -> list[Entry]:
    """
    Return the entries that follow ``position``, in order, at most ``limit``.

    Raises ``BadCursor`` unless the log proves that ``position`` is its own and that nothing is
    missing after it. The proof is the position's own entry, read by the same statement; only when
    that has been pruned, or nothing follows, is the head asked.
    """
    found = read(position.number - 1, limit=limit + 1)
    if found and found[0].position.number == position.number:
        if found[0].position != position:
            raise BadCursor("unknown")
        found = found[1:]
    else:
        prove(position)
        found = found[:limit]
    if any(entry.position.number != at for at, entry in enumerate(found, position.number + 1)):
        raise BadCursor("unknown")
    return found


def until(position: Position, *, limit: int) -> tuple[Position, list[Entry]]:
    """
    Return the last entries up to ``position``, at most ``limit``, and the position before them.

    Raises ``BadCursor`` when the log does not hold ``position`` any more.
    """
    rows = EntryRow.objects.using(head.database()).filter(position__lte=position.number)
    found = _entries(rows.order_by("-position")[: limit + 1])[::-1]
    if not found:
        prove(position)
        return position, []
    if found[-1].position != position:
        raise BadCursor("unknown")
    first = found[0].position
    lowest = head.floor()
    if len(found) <= limit and lowest.number == first.number - 1:
        return lowest, found
    return first, found[1:]


def prove(position: Position) -> None:
    """Raise ``BadCursor`` unless the log still holds, or ends at, exactly ``position``."""
    found = head.find()
    if found is None or position.number > found.position:
        raise BadCursor("unknown")
    uuid: UUID | None
    if position.number == found.position:
        uuid = found.uuid
    elif position.number < found.floor:
        raise BadCursor("expired")
    elif position.number == found.floor:
        uuid = found.floor_uuid
    else:
        rows = EntryRow.objects.using(head.database()).filter(position=position.number)
        uuid = rows.values_list("uuid", flat=True).first()
    if uuid is None or uuid.hex != position.uuid:
        raise BadCursor("unknown")


def state() -> LogState:
    """Return how the log is, by a few queries that an index answers whatever its size."""
    found = head.find()
    waiting = numbering.unnumbered()
    first = waiting.order_by("pk").values_list("pk", "created_at").first()
    count = waiting.order_by()[:COUNT_LIMIT].count() if first else 0
    rows = EntryRow.objects.using(head.database())
    oldest = rows.order_by("created_at").values_list("created_at").first()
    now = timezone.now()
    return LogState(
        head=found.position if found else 0,
        floor=found.floor if found else 0,
        unnumbered=count,
        first=first[0] if first else None,
        waiting_seconds=(now - first[1]).total_seconds() if first else 0.0,
        oldest_seconds=(now - oldest[0]).total_seconds() if oldest else 0.0,
    )


def _entries(rows: QuerySet[EntryRow]) -> list[Entry]:
    return [
        Entry(
            position=Position(row.position, row.uuid.hex),  # type: ignore[arg-type]  # numbered
            kind=Kind(row.kind),
            model=row.model,
            object_id=row.object_id,
            was=row.was,
        )
        for row in rows
    ]
