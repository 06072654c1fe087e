"""
The head: the log's only row about itself, with the positions of its newest entry and of its floor.

Who holds its lock, and nobody else, numbers entries or deletes them. The only module that touches
the head's table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID, uuid4

from django.db import DatabaseError, InterfaceError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from wagtail_live.events import Position
from wagtail_live.models import Entry, Head

#: So long may a client stand still while it holds the head's lock; then the database takes it away.
LOCK_SECONDS = 5
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


def database() -> str:
    """Return the alias of the database that holds the log."""
    return router.db_for_write(Entry)


def find() -> Head | None:
    """Return the head as it is, without a lock; None before the log began."""
    return Head.objects.using(database()).filter(pk=1).first()


def position() -> Position:
    """Return the position of the newest numbered entry."""
    found = Head.objects.using(database()).filter(pk=1).values_list("position", "uuid").first()
    if found is None:
        row = _first(database())
        found = row.position, row.uuid
    return Position(found[0], found[1].hex)


def floor() -> Position:
    """Return the position of the newest pruned entry: what a cursor must not be older than."""
    found = Head.objects.using(database()).get(pk=1)
    return Position(found.floor, found.floor_uuid.hex)


@contextmanager
def locked(*, wait: bool) -> Iterator[Head | None]:
    """
    Lock the head in a transaction; None when ``wait`` is False and somebody else has it.

    A process that is stopped in the middle would hold up all numbering for as long: PostgreSQL and
    MariaDB end the transaction of a client that stands still. The connection's own setting is not
    changed by this, or as it was afterwards.
    """
    using = database()
    connection = connections[using]
    dialect = "mariadb" if getattr(connection, "mysql_is_mariadb", False) else connection.vendor
    within, before, after = _BOUNDS.get(dialect, ("", "", ""))
    if connection.in_atomic_block:  # a transaction of somebody else's, and of their length
        within = before = after = ""
    _execute(connection, before)
    try:
        with transaction.atomic(using=using):
            _execute(connection, within)
            yield _lock(using, wait=wait)
    finally:
        # Gone with the connection, if that is gone.
        with suppress(DatabaseError, InterfaceError):
            _execute(connection, after)


def move_on(number: int, uuid: UUID) -> None:
    """The newest entry is now this one. Needs the lock."""
    Head.objects.using(database()).filter(pk=1).update(position=number, uuid=uuid)


def raise_floor(number: int, uuid: UUID) -> None:
    """The newest pruned entry is now this one. Needs the lock."""
    Head.objects.using(database()).filter(pk=1).update(floor=number, floor_uuid=uuid)


def begin_anew() -> None:
    """End the log here, and raise the floor to it, with a uuid of no entry. Needs the lock."""
    beginning = uuid4()
    Head.objects.using(database()).filter(pk=1).update(
        uuid=beginning, floor=F("position"), floor_uuid=beginning
    )


def _lock(using: str, *, wait: bool) -> Head | None:
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
    return locked or _first(using)


def _execute(connection: BaseDatabaseWrapper, statement: str) -> None:
    if statement:
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _first(using: str) -> Head:
    """Return the head, made when there is none: an empty log ends where its floor is."""
    beginning = uuid4()
    defaults = {"uuid": beginning, "floor_uuid": beginning}
    return Head.objects.using(using).get_or_create(pk=1, defaults=defaults)[0]
