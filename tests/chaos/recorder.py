"""
Runs one operation of the writer and journals it: what it is about to do, its entries, its outcome.

An entry is journalled while its transaction is open, so that whatever happens to the writer the log
tells afterwards whether the operation was committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from django.db import DatabaseError, InterfaceError, connection, connections, transaction

from tests.chaos.journal import Journal

Effect = dict[str, Any]


class Undone(Exception):
    """Raised by an operation to have its transaction rolled back."""


class Recorder:
    """Journals the operations of one writer process."""

    def __init__(self, journal: Journal, began: float) -> None:
        self.journal = journal
        self._began = began
        self._local = threading.local()
        self._lock = threading.Lock()
        self._transactions = 0
        self._version = 0

    def version(self) -> int:
        """Return a version that is newer than any before, a restarted writer's included."""
        with self._lock:
            since = int((time.monotonic() - self._began) * 1000)
            self._version = max(self._version + 1, since)
            return self._version

    def entry(self, uuid: str, model: str, object_id: str) -> None:
        """An entry was written by this thread."""
        self.journal.write(
            kind="entry",
            tx=getattr(self._local, "tx", None),
            uuid=uuid,
            model=model,
            key=object_id,
        )

    def perform(
        self,
        operation: str,
        effects: list[Effect],
        action: Callable[[], Any],
        *,
        atomic: bool = True,
    ) -> bool:
        """
        Do ``action`` and journal it; return whether it is known to have happened.

        ``effects``: what it makes of which object; the key of a new one is filled in by ``action``.
        """
        with self._lock:
            self._transactions += 1
            tx = f"{self._began:.0f}-{time.monotonic():.3f}-{self._transactions}"
        self._local.tx = tx
        self.journal.write(kind="begin", tx=tx, op=operation, effects=effects, atomic=atomic)
        problem = None
        try:
            with transaction.atomic() if atomic else nullcontext():
                action()
            outcome = "ok"
        except Undone:
            outcome = "undone"
        except (DatabaseError, InterfaceError) as error:
            outcome, problem = "unknown", repr(error)
        except Exception as error:
            outcome, problem = ("failed" if atomic else "unknown"), repr(error)
        self._local.tx = None
        self.journal.write(kind="end", tx=tx, outcome=outcome, effects=effects, problem=problem)
        if outcome == "unknown":
            connection.close()
            time.sleep(0.2)
        return outcome == "ok"


def disconnect() -> None:
    """Close this thread's connections."""
    connections.close_all()
