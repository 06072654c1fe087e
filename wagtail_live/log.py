"""
The log: append in the caller's transaction, number after commit, read in order, prune.

Autoincrement order is not commit order, so entries are inserted without a position. After commit a
short transaction under the head's lock gives dense positions to all visible unnumbered entries;
whoever comes first does it, a writer or any process's relay. The only module that touches the
log's models.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar
from uuid import UUID, uuid4
from weakref import WeakSet, WeakValueDictionary

from django.db import DatabaseError, InterfaceError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, F, Model, QuerySet, Subquery, Value, When
from django.db.models.functions import JSONObject
from django.utils import timezone

from wagtail_live import bell
from wagtail_live.conf import settings
from wagtail_live.events import Entry, Kind, LogState, Position
from wagtail_live.exceptions import BadCursor
from wagtail_live.models import Entry as EntryRow
from wagtail_live.models import Head

logger = logging.getLogger("wagtail_live")

READ_LIMIT = 500
#: More entries without a position are not counted.
COUNT_LIMIT = 10_000
#: After this long an announced save has ended, whatever became of its process.
UNSETTLED_SECONDS = 30
#: So long may a client stand still while it holds the head's lock; then the database takes it away.
LOCK_SECONDS = 5
PRUNE_LIMIT = 1000
#: How that is said: within the transaction; or before it, and how it is taken back.
_BOUNDS = {
    "postgresql": (f"SET LOCAL idle_in_transaction_session_timeout = '{LOCK_SECONDS}s'", "", ""),
    "mariadb": (
        "",
        "SET @wagtail_live_idle = @@SESSION.idle_transaction_timeout, "
        f"SESSION idle_transaction_timeout = {LOCK_SECONDS}",
        "SET SESSION idle_transaction_timeout = @wagtail_live_idle",
    ),
}


class Was(Subquery):
    """The columns of a row as they are before the save, looked up by the insert itself."""

    # The columns are those of the subquery's own table, not of the row that is inserted.
    contains_column_references = False

    def __init__(self, rows: QuerySet[Any], *columns: str) -> None:
        was = JSONObject(**{column: F(column) for column in columns})
        super().__init__(rows.order_by().values(was=was)[:1])


class _Ring:
    """
    What runs after commit. Registered per entry, so a savepoint that rolls back drops both; the
    first of a transaction to run does the work for all.
    """

    pending: ClassVar[WeakSet[BaseDatabaseWrapper]] = WeakSet()

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.pending.add(connection)

    def __call__(self) -> None:
        if self.connection in self.pending:
            self.pending.discard(self.connection)
            number_and_ring(wait=False)


_Key = tuple[int, Kind, str, str]
_appended: WeakValueDictionary[_Key, _Ring] = WeakValueDictionary()


def database() -> str:
    """Return the alias of the database that holds the log."""
    return router.db_for_write(EntryRow)


def append(
    kind: Kind,
    model: type[Model],
    object_id: object = "",
    *,
    was: Mapping[str, Any] | Was | None = None,
    using: str | None = None,
) -> None:
    """
    Append one entry in the current transaction of ``using``; number and ring after its commit.

    A second entry about the same object in the same transaction is not written. When the change is
    in another database than the log, the entry follows its commit.
    """
    log_database = database()
    if using is not None and using != log_database:
        transaction.on_commit(
            lambda: append(kind, model, object_id, was=was), using=using, robust=True
        )
        return
    label = model._meta.label_lower
    connection = connections[log_database]
    key = (id(connection), kind, label, str(object_id))
    if _is_appended(connection, key):
        return
    EntryRow.objects.using(log_database).create(
        kind=kind, model=label, object_id=str(object_id), was=was
    )
    ring = _Ring(connection)
    if connection.in_atomic_block:
        _appended[key] = ring
    transaction.on_commit(ring, using=log_database, robust=True)


def announce(
    kind: Kind,
    model: type[Model],
    object_id: object = "",
    *,
    was: Mapping[str, Any] | Was | None = None,
) -> int:
    """
    Note a save that is about to happen outside any transaction; return what ``settle`` takes.

    Should the process die between the save and ``settle``, the entry counts after
    ``UNSETTLED_SECONDS``: nothing that was saved is lost.
    """
    row = EntryRow.objects.using(database()).create(
        kind=kind,
        model=model._meta.label_lower,
        object_id=str(object_id),
        was=was,
        settled=False,
    )
    return int(row.pk)


def settle(announced: int, kind: Kind, model: type[Model], object_id: object) -> None:
    """
    The announced save has happened: number its entry and ring.

    When it took so long that the entry counts already, perhaps was read before the save, or is
    pruned, a second one follows.
    """
    using = database()
    rows = EntryRow.objects.using(using).filter(pk=announced)
    try:
        if not rows.filter(position__isnull=True).update(object_id=str(object_id), settled=True):
            was = rows.values_list("was", flat=True).first()
            append(kind, model, object_id, was=was)
    except Exception:
        logger.exception("an entry was not settled; it counts in %d s", UNSETTLED_SECONDS)
        return
    # A save that failed before may have announced what one in a transaction settles.
    transaction.on_commit(partial(number_and_ring, wait=False), using=using, robust=True)


def number_and_ring(*, wait: bool) -> None:
    """Number what is committed and ring the bell. Never raises: polling makes up for a failure."""
    try:
        number(wait=wait)
    except Exception:
        logger.exception("entries were not numbered; a relay will do it")
    try:
        bell.ring()
    except Exception:
        logger.exception("the bell was not rung; polling goes on")


def number(*, wait: bool = True) -> int:
    """
    Give positions to all committed entries that have none; return how many.

    With ``wait`` False it gives up when somebody else holds the head, where the database can
    tell: they or a relay will number what this writer appended.
    """
    using = database()
    with _locked_head(using, wait=wait) as head:
        if head is None:
            return 0
        rows = list(_unnumbered(using).order_by("pk").values_list("pk", "uuid")[:READ_LIMIT])
        if not rows:
            return 0
        positions = {pk: head.position + index for index, (pk, _) in enumerate(rows, start=1)}
        _write_positions(using, positions)
        Head.objects.using(using).filter(pk=1).update(
            position=head.position + len(rows), uuid=rows[-1][1]
        )
        return len(rows)


def has_unnumbered() -> bool:
    """Return whether committed entries wait for a position."""
    return _unnumbered(database()).exists()


def head() -> Position:
    """Return the position of the newest numbered entry."""
    found = Head.objects.using(database()).filter(pk=1).values_list("position", "uuid").first()
    if found is None:
        row = _first_head(database())
        found = row.position, row.uuid
    return Position(found[0], found[1].hex)


def floor() -> Position:
    """Return the position of the newest pruned entry: what a cursor must not be older than."""
    found = Head.objects.using(database()).get(pk=1)
    return Position(found.floor, found.floor_uuid.hex)


def state() -> LogState:
    """Return how the log is, by a few queries that an index answers whatever its size."""
    using = database()
    head = Head.objects.using(using).filter(pk=1).first()
    waiting = _unnumbered(using)
    first = waiting.order_by("pk").values_list("pk", "created_at").first()
    count = waiting.order_by()[:COUNT_LIMIT].count() if first else 0
    oldest = EntryRow.objects.using(using).order_by("created_at").values_list("created_at").first()
    now = timezone.now()
    return LogState(
        head=head.position if head else 0,
        floor=head.floor if head else 0,
        unnumbered=count,
        first=first[0] if first else None,
        waiting_seconds=(now - first[1]).total_seconds() if first else 0.0,
        oldest_seconds=(now - oldest[0]).total_seconds() if oldest else 0.0,
    )


def read(after: int, *, limit: int = READ_LIMIT) -> list[Entry]:
    """Return the entries after position ``after``, in order, at most ``limit``."""
    rows = EntryRow.objects.using(database()).filter(position__gt=after)
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
    rows = EntryRow.objects.using(database()).filter(position__lte=position.number)
    found = _entries(rows.order_by("-position")[: limit + 1])[::-1]
    if not found:
        prove(position)
        return position, []
    if found[-1].position != position:
        raise BadCursor("unknown")
    first = found[0].position
    lowest = floor()
    if len(found) <= limit and lowest.number == first.number - 1:
        return lowest, found
    return first, found[1:]


def prove(position: Position) -> None:
    """Raise ``BadCursor`` unless the log still holds, or ends at, exactly ``position``."""
    using = database()
    found = Head.objects.using(using).filter(pk=1).first()
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
        rows = EntryRow.objects.using(using).filter(position=position.number)
        uuid = rows.values_list("uuid", flat=True).first()
    if uuid is None or uuid.hex != position.uuid:
        raise BadCursor("unknown")


def prune(*, older_than: timedelta | None = None, wait: bool = False) -> int:
    """
    Delete entries older than the retention time and move the floor; return how many.

    In steps of ``PRUNE_LIMIT``, each a short transaction, so that nobody waits long for the head.
    Without ``wait`` it leaves the rest to the next time when somebody else holds the head.
    """
    if older_than is None:
        older_than = timedelta(hours=settings.retention_hours)
    limit = timezone.now() - older_than
    rows = EntryRow.objects.using(database()).filter(position__isnull=False, created_at__lt=limit)
    newest = rows.order_by("-position").values_list("position", flat=True).first()
    deleted = 0
    while newest is not None and (step := _prune_step(int(newest), wait=wait)):
        deleted += step
    return deleted


def new_epoch() -> int:
    """
    Begin the log anew: no cursor and no relay can go on from what was; return how many were pruned.

    For operators, after a backup was restored. Entries that wait for a position are kept.
    """
    using = database()
    deleted = 0
    while step := _prune_step(head().number, wait=True):
        deleted += step
    with _locked_head(using, wait=True):
        # Those who have come in between belong to the old epoch too.
        deleted += EntryRow.objects.using(using).filter(position__isnull=False).delete()[0]
        beginning = uuid4()
        Head.objects.using(using).filter(pk=1).update(
            uuid=beginning, floor=F("position"), floor_uuid=beginning
        )
    bell.ring()
    return deleted


def _prune_step(newest: int, *, wait: bool) -> int:
    """Delete the oldest entries up to position ``newest``, not too many at once."""
    using = database()
    with _locked_head(using, wait=wait) as head:
        if head is None:
            return 0
        rows = EntryRow.objects.using(using).filter(position__lte=newest)
        some = list(rows.order_by("position").values_list("position", "uuid")[:PRUNE_LIMIT])
        if not some:
            return 0
        last, uuid = some[-1]
        Head.objects.using(using).filter(pk=1).update(floor=last, floor_uuid=uuid)
        return rows.filter(position__lte=last).delete()[0]


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


def _is_appended(connection: Any, key: _Key) -> bool:
    ring = _appended.get(key)
    # The callback stands in this list for as long as the row stands in this transaction.
    return ring is not None and any(
        callback is ring for _, callback, _ in reversed(connection.run_on_commit)
    )


def _unnumbered(using: str) -> QuerySet[EntryRow]:
    rows = EntryRow.objects.using(using).filter(position__isnull=True)
    overdue = timezone.now() - timedelta(seconds=UNSETTLED_SECONDS)
    return rows.filter(settled=True) | rows.filter(created_at__lt=overdue)


def _lock_head(using: str, *, wait: bool) -> Head | None:
    """Lock the head's row until the transaction ends; None when ``wait`` is False and it is."""
    heads = Head.objects.using(using)
    features = connections[using].features
    if not features.has_select_for_update:
        # SQLite: the first statement must write, or the transaction cannot become a writer later.
        heads.filter(pk=1).update(position=F("position"))
        locked = heads.filter(pk=1).first()
    else:
        skip = not wait and features.has_select_for_update_skip_locked
        locked = heads.select_for_update(skip_locked=skip).filter(pk=1).first()
        if locked is None and skip and heads.filter(pk=1).exists():
            return None
    return locked or _first_head(using)


@contextmanager
def _locked_head(using: str, *, wait: bool) -> Iterator[Head | None]:
    """
    Lock the head in a transaction; None when ``wait`` is False and somebody else has it.

    A process that is stopped in the middle would hold up all numbering for as long: PostgreSQL and
    MariaDB end the transaction of a client that stands still. The connection's own setting is not
    changed by this, or as it was afterwards.
    """
    connection = connections[using]
    dialect = "mariadb" if getattr(connection, "mysql_is_mariadb", False) else connection.vendor
    within, before, after = _BOUNDS.get(dialect, ("", "", ""))
    if connection.in_atomic_block:  # a transaction of somebody else's, and of their length
        within = before = after = ""
    _execute(connection, before)
    try:
        with transaction.atomic(using=using):
            _execute(connection, within)
            yield _lock_head(using, wait=wait)
    finally:
        # Gone with the connection, if that is gone.
        with suppress(DatabaseError, InterfaceError):
            _execute(connection, after)


def _execute(connection: BaseDatabaseWrapper, statement: str) -> None:
    if statement:
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _first_head(using: str) -> Head:
    """Return the head, made when there is none: an empty log ends where its floor is."""
    beginning = uuid4()
    defaults = {"uuid": beginning, "floor_uuid": beginning}
    return Head.objects.using(using).get_or_create(pk=1, defaults=defaults)[0]


def _write_positions(using: str, positions: Mapping[int, int]) -> None:
    rows = EntryRow.objects.using(using)
    if len(positions) == 1:
        [(pk, position)] = positions.items()
        rows.filter(pk=pk).update(position=position, settled=True)
        return
    cases: Sequence[When] = [When(pk=pk, then=Value(at)) for pk, at in positions.items()]
    rows.filter(pk__in=positions).update(
        position=Case(*cases, output_field=EntryRow._meta.get_field("position")), settled=True
    )
