"""
Bugs planted into a server, to see that the checker finds each; never in the package.

`repeat` is not here: the JavaScript client takes repetitions away, so it is planted in its handler.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from typing import Any

from wagtail_live import feed, impact, log
from wagtail_live.events import Kind, Missed
from wagtail_live.outbox import Outbox

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
    Outbox.write = write  # type: ignore[method-assign]


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

    def nothing(*arguments: Any, **options: Any) -> Missed:
        return Missed({}, {}, frozenset(), log.head())

    feed.missed = nothing


def skip_revocation() -> None:
    """Overlook that who may see what has changed."""
    original = impact.batch

    def batch(entries: Any, position: Any) -> Any:
        kept = [entry for entry in entries if entry.kind is not Kind.ACCESS]
        made = original(kept, position)
        return type(made)(
            before=made.before,
            last=entries[-1].position,
            changed=made.changed,
            compare=made.compare,
            renew=made.renew,
        )

    impact.batch = batch


def _spoil(how: Callable[..., None]) -> None:
    original = Outbox.write
    turn = itertools.count()

    def write(outbox: Outbox, frame: str) -> None:
        if '"event":"update"' in frame and next(turn) % EVERY == 0:
            how(original, outbox, frame)
        else:
            original(outbox, frame)

    Outbox.write = write  # type: ignore[method-assign]


PLANTS: dict[str, Callable[[], None]] = {
    "drop": drop,
    "swap": swap,
    "leak": leak,
    "stale-cursor": stale_cursor,
    "skip-revocation": skip_revocation,
}
