"""How long entries stay: they are deleted in order, and the floor rises to what went last."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from wagtail_live import bell, head
from wagtail_live.conf import settings
from wagtail_live.models import Entry

#: So many entries are deleted in one transaction.
PRUNE_LIMIT = 1000


def prune(*, older_than: timedelta | None = None, wait: bool = False) -> int:
    """
    Delete entries older than the retention time and move the floor; return how many.

    In steps of ``PRUNE_LIMIT``, each a short transaction, so that nobody waits long for the head.
    Without ``wait`` it leaves the rest to the next time when somebody else holds the head.
    """
    if older_than is None:
        older_than = timedelta(hours=settings.retention_hours)
    limit = timezone.now() - older_than
    rows = Entry.objects.using(head.database())
    rows = rows.filter(position__isnull=False, created_at__lt=limit)
    newest = rows.order_by("-position").values_list("position", flat=True).first()
    deleted = 0
    while newest is not None and (step := _step(int(newest), wait=wait)):
        deleted += step
    return deleted


def new_epoch() -> int:
    """
    Begin the log anew: no cursor and no relay can go on from what was; return how many were pruned.

    For operators, after a backup was restored. Entries that wait for a position are kept.
    """
    deleted = 0
    while step := _step(head.position().number, wait=True):
        deleted += step
    with head.locked(wait=True):
        # Those who have come in between belong to the old epoch too.
        rows = Entry.objects.using(head.database()).filter(position__isnull=False)
        deleted += rows.delete()[0]
        head.begin_anew()
    bell.ring()
    return deleted


def _step(newest: int, *, wait: bool) -> int:
    """Delete the oldest entries up to position ``newest``, not too many at once."""
    with head.locked(wait=wait) as locked:
        if locked is None:
            return 0
        rows = Entry.objects.using(head.database()).filter(position__lte=newest)
        some = list(rows.order_by("position").values_list("position", "uuid")[:PRUNE_LIMIT])
        if not some:
            return 0
        last, uuid = some[-1]
        head.raise_floor(last, uuid)  # type: ignore[arg-type]  # numbered
        return rows.filter(position__lte=last).delete()[0]
