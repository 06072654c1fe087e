"""``manage.py check``: the databases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from wagtail.models import Page

from wagtail_live import head

#: Less than this, and two editors who save at once get "database is locked".
SQLITE_SECONDS = 5.0
_WAL = re.compile(r"journal_mode\s*(=|\()\s*['\"]?wal", re.IGNORECASE)


@register(Tags.compatibility)
def check_place(**kwargs: Any) -> list[CheckMessage]:
    """Return a warning when a change and its entry cannot be in one transaction."""
    content = router.db_for_write(Page)
    if content == head.database():
        return []
    return [
        Warning(
            f"The log is in the database {head.database()!r}, pages are in {content!r}: a change "
            "whose process dies right after its commit gets no entry.",
            hint="Let your database router keep wagtail_live where wagtailcore is.",
            id="wagtail_live.W012",
        )
    ]


@register(Tags.compatibility, deploy=True)
def check_options(**kwargs: Any) -> list[CheckMessage]:
    """Return what the options of the log's database make slow, or fail."""
    settings = connections[head.database()].settings_dict
    match connections[head.database()].vendor:
        case "sqlite":
            return [*_sqlite(settings)]
        case "mysql":
            return [*_mysql(settings)]
    return []


@register(Tags.compatibility, deploy=True)
def check_persistence(**kwargs: Any) -> list[CheckMessage]:
    """Return a warning for each database whose connections outlive the thread of a request."""
    return [
        Warning(
            f"CONN_MAX_AGE of the database {alias!r} is not 0: under ASGI each request has a "
            "thread of its own, and its connection stays open after it.",
            hint="Set CONN_MAX_AGE to 0 where ASGI serves; on PostgreSQL use a connection pool.",
            id="wagtail_live.W002",
        )
        for alias in connections
        if connections[alias].settings_dict["CONN_MAX_AGE"] != 0
    ]


@register(Tags.database)
def check_transactions(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Return an error when the log's tables know no transactions."""
    using = head.database()
    if using not in (databases or ()) or connections[using].features.supports_transactions:
        return []
    return [
        Error(
            f"The database {using!r} makes tables without transactions: what is rolled back "
            "would be told, and entries be numbered twice.",
            hint="Use the storage engine InnoDB.",
            id="wagtail_live.E009",
        )
    ]


def _sqlite(settings: dict[str, Any]) -> Iterator[CheckMessage]:
    options = settings["OPTIONS"]
    if str(options.get("transaction_mode", "")).upper() not in {"IMMEDIATE", "EXCLUSIVE"}:
        yield Warning(
            "SQLite begins transactions as readers: one that goes on to write fails at once when "
            "another has written meanwhile.",
            hint='Set "transaction_mode": "IMMEDIATE" in the OPTIONS of the database.',
            id="wagtail_live.W009",
        )
    if not _WAL.search(options.get("init_command", "")) and not _is_wal(str(settings["NAME"])):
        yield Warning(
            "SQLite is not in WAL mode: who reads waits for who writes, and the reverse.",
            hint='Set "init_command": "PRAGMA journal_mode=WAL;" in the OPTIONS of the database.',
            id="wagtail_live.W010",
        )
    if options.get("timeout", SQLITE_SECONDS) < SQLITE_SECONDS:
        yield Warning(
            f"SQLite waits {options['timeout']:g} s for another writer, and then the save fails.",
            hint='Set "timeout": 20 in the OPTIONS of the database.',
            id="wagtail_live.W011",
        )


def _is_wal(name: str) -> bool:
    """Return whether the file says that it is in WAL mode (https://sqlite.org/fileformat.html)."""
    try:
        with Path(name).open("rb") as file:
            return file.read(20)[18:] == b"\x02\x02"
    except OSError:
        return ":memory:" in name or "mode=memory" in name


def _mysql(settings: dict[str, Any]) -> Iterator[CheckMessage]:
    charset = settings["OPTIONS"].get("charset", "utf8mb4")
    if charset != "utf8mb4":
        yield Warning(
            f"The connection to MySQL speaks {charset}: a slug with an emoji cannot be saved.",
            hint='Set "charset": "utf8mb4" in the OPTIONS of the database.',
            id="wagtail_live.W015",
        )
