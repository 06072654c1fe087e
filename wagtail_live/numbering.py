"""
Numbering: dense positions for what is committed, in one order for all who read.

Autoincrement order is not commit order, so entries are inserted without a position. A short
transaction under the head's lock gives positions to all visible entries that have none; whoever
comes first does it, a writer after its commit or any process's relay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from django.db.models import Case, QuerySet, Value, When
from django.utils import timezone

from wagtail_live import head
from wagtail_live.models import Entry

#: So many entries are numbered at once.
NUMBER_LIMIT = 500
#: After this long an announced save has ended, whatever became of its process.
UNSETTLED_SECONDS = 30


def number(*, wait: bool = True) -> int:
    """
    Give positions to committed entries that have none, the oldest first; return how many.

    With ``wait`` False it gives up when somebody else holds the head, where the database can
    tell: they or a relay will number what this writer appended.
    """
    with head.locked(wait=wait) as locked:
        if locked is None:
            return 0
        rows = list(unnumbered().order_by("pk").values_list("pk", "uuid")[:NUMBER_LIMIT])
        if not rows:
            return 0
        _write({pk: at for at, (pk, _) in enumerate(rows, start=locked.position + 1)})
        head.move_on(locked.position + len(rows), rows[-1][1])
        return len(rows)


def has_unnumbered() -> bool:
    """Return whether committed entries wait for a position."""
    return unnumbered().exists()


def unnumbered() -> QuerySet[Entry]:
    """Return the entries that wait for a position: settled, or overdue."""
    rows = Entry.objects.using(head.database()).filter(position__isnull=True)
    overdue = timezone.now() - timedelta(seconds=UNSETTLED_SECONDS)
    return rows.filter(settled=True) | rows.filter(created_at__lt=overdue)


def _write(positions: Mapping[int, int]) -> None:
    rows = Entry.objects.using(head.database())
    if len(positions) == 1:
        [(pk, position)] = positions.items()
        rows.filter(pk=pk).update(position=position, settled=True)
        return
    cases: Sequence[When] = [When(pk=pk, then=Value(at)) for pk, at in positions.items()]
    rows.filter(pk__in=positions).update(
        position=Case(*cases, output_field=Entry._meta.get_field("position")), settled=True
    )
