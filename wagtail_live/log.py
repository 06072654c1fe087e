"""
The log: appended to in the transaction that makes the change; numbered and rung for after commit.

Writing ends here: what becomes of an entry is for ``numbering``, ``history`` and ``retention``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar
from weakref import WeakSet, WeakValueDictionary

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Model, QuerySet, Subquery
from django.db.models.functions import JSONObject

from wagtail_live import bell, head, numbering
from wagtail_live.events import Kind
from wagtail_live.models import Entry

logger = logging.getLogger("wagtail_live")


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


def append(
    kind: Kind,
    model: type[Model] | str,
    object_id: object = "",
    *,
    was: Mapping[str, Any] | Was | None = None,
    using: str | None = None,
) -> None:
    """
    Append one entry in the current transaction of ``using``; number and ring after its commit.

    ``model`` may be a label: what the entry is about need not be a model of this site's. A second
    entry about the same object in the same transaction is not written. When the change is in
    another database than the log, the entry follows its commit.
    """
    log_database = head.database()
    if using is not None and using != log_database:
        transaction.on_commit(
            lambda: append(kind, model, object_id, was=was), using=using, robust=True
        )
        return
    label = model if isinstance(model, str) else model._meta.label_lower
    connection = connections[log_database]
    key = (id(connection), kind, label, str(object_id))
    if _is_appended(connection, key):
        return
    Entry.objects.using(log_database).create(
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
    ``numbering.UNSETTLED_SECONDS``: nothing that was saved is lost.
    """
    row = Entry.objects.using(head.database()).create(
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
    using = head.database()
    rows = Entry.objects.using(using).filter(pk=announced)
    try:
        if not rows.filter(position__isnull=True).update(object_id=str(object_id), settled=True):
            was = rows.values_list("was", flat=True).first()
            append(kind, model, object_id, was=was)
    except Exception:
        logger.exception("an entry was not settled; it counts in %d s", numbering.UNSETTLED_SECONDS)
        return
    # A save that failed before may have announced what one in a transaction settles.
    transaction.on_commit(partial(number_and_ring, wait=False), using=using, robust=True)


def state(
    instance: Any,
    kind: Kind,
    model: type[Model],
    object_id: object,
    *,
    was: Mapping[str, Any] | Was | None = None,
    using: str,
) -> None:
    """
    State a change that a save of ``instance`` is about to make: in its transaction, or ahead of it.
    After the save, ``stated`` is to be called.
    """
    if connections[using].in_atomic_block:
        append(kind, model, object_id, was=was, using=using)
    else:
        announced = announce(kind, model, object_id, was=was)
        instance._wagtail_live_announced = announced, kind, model, object_id


def stated(instance: Any) -> bool:
    """Settle what was announced before ``instance`` was saved; return whether anything was."""
    announced = instance.__dict__.pop("_wagtail_live_announced", None)
    if announced is None:
        return False
    row, kind, model, key = announced
    # A row that was added has its key only now; without one, an entry of rights is about everybody.
    settle(row, kind, model, key if kind is Kind.RIGHTS else key or instance.pk)
    return True


def number_and_ring(*, wait: bool) -> None:
    """Number what is committed and ring the bell. Never raises: polling makes up for a failure."""
    try:
        numbering.number(wait=wait)
    except Exception:
        logger.exception("entries were not numbered; a relay will do it")
    try:
        bell.ring()
    except Exception:
        logger.exception("the bell was not rung; polling goes on")


def _is_appended(connection: Any, key: _Key) -> bool:
    ring = _appended.get(key)
    # The callback stands in this list for as long as the row stands in this transaction.
    return ring is not None and any(
        callback is ring for _, callback, _ in reversed(connection.run_on_commit)
    )
