"""
Bugs planted into a server, to see that the checker finds each; never in the package.

`repeat` is not here: the JavaScript client takes repetitions away, so it is planted in
`client.mjs`, between that client and its handler.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from typing import Any

from wagtail_live import impact
from wagtail_live.events import Kind, Missed
from wagtail_live.outbox import Outbox
from wagtail_live.session import Session
from wagtail_live.source import Source

#: Every so-manieth frame is spoilt: seldom enough that the next ones hide it from convergence.
EVERY = 25


def plant(name: str) -> None:
    """Plant the bug called ``name``; none for an empty name or one that is planted elsewhere."""
    PLANTS.get(name, lambda: None)()


def drop() -> None:
    """Lose a change on its way to one client."""
    _spoil(lambda write, outbox, frame: None)


def swap() -> None:
    """Send two changes in the wrong order."""
    held: dict[int, str] = {}
    original = Outbox.write

    def write(outbox: Outbox, frame: str) -> None:
        if '"event":"update"' not in frame:
            original(outbox, frame)
        elif (earlier := held.pop(id(outbox), None)) is not None:
            original(outbox, frame)
            original(outbox, earlier)
        elif next(turn) % EVERY == 0:
            held[id(outbox)] = frame
        else:
            original(outbox, frame)

    turn = itertools.count()
    _replace(Outbox, "write", write)


def leak() -> None:
    """Name an object that its reader could never see."""
    hidden = int(os.environ.get("CHAOS_HIDDEN", "0"))

    def tell(write: Callable[..., None], outbox: Outbox, frame: str) -> None:
        write(outbox, frame)
        told = json.loads(frame)
        gone = {"type": "subscription", "event": "delete", "data": [hidden], "uid": told.get("uid")}
        write(outbox, json.dumps(gone))

    _spoil(tell)


def stale_cursor() -> None:
    """Resume from wherever a client was as if nothing had happened since."""

    def nothing(source: Any, representation: Any, live_query: Any, gap: Any, **rest: Any) -> Missed:
        return Missed({}, {}, frozenset(), gap.batch.last)

    _replace(Source, "missed", nothing)


def skip_revocation() -> None:
    """Overlook that who may see what has changed."""
    original = impact.touched

    def touched(entries: Any) -> Any:
        return original([entry for entry in entries if entry.kind is not Kind.ACCESS])

    _replace(impact, "touched", touched)


def hoard() -> None:
    """Never let go of a session."""
    original = Session.close
    kept: list[Session] = []

    def close(session: Session) -> None:
        kept.append(session)
        original(session)

    _replace(Session, "close", close)


def _spoil(how: Callable[..., None]) -> None:
    original = Outbox.write
    turn = itertools.count()

    def write(outbox: Outbox, frame: str) -> None:
        if '"event":"update"' in frame and next(turn) % EVERY == 0:
            how(original, outbox, frame)
        else:
            original(outbox, frame)

    _replace(Outbox, "write", write)


def _replace(owner: Any, name: str, spoilt: Any) -> None:
    """Put ``spoilt`` where the package looks for ``name``; there must be something to spoil."""
    getattr(owner, name)
    setattr(owner, name, spoilt)


PLANTS: dict[str, Callable[[], None]] = {
    "drop": drop,
    "swap": swap,
    "leak": leak,
    "stale-cursor": stale_cursor,
    "skip-revocation": skip_revocation,
    "hoard": hoard,
}
