"""Who the clients are: a few dozen, over every transport, scope and asker."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from tests.chaos.journal import Record
from tests.chaos.scopes import PASSES, Scope

COUNTS = {
    "websocket": 22,
    "script": 6,
    "script-events": 4,
    "events": 12,
    "changes": 6,
    "liar": 3,
}
#: Scopes per client, where a connection carries several.
SEVERAL = {"websocket": 2, "script": 3, "script-events": 3, "liar": 2}


def clients(scopes: Mapping[str, Scope], transports: Iterable[str]) -> list[Record]:
    """Return the clients; every transport in ``transports`` meets every scope and asker."""
    pairs = itertools.cycle(itertools.product(scopes, PASSES))
    made: list[Record] = []
    for transport in transports:
        for number in range(COUNTS[transport]):
            name, asker = next(pairs)
            names = [name]
            others = itertools.islice(itertools.cycle(scopes), number + 3, None)
            while len(names) < SEVERAL.get(transport, 1):
                if (other := next(others)) not in names:
                    names.append(other)
            made.append(
                {
                    "id": f"{transport}-{number}",
                    "transport": transport,
                    "asker": asker,
                    "scopes": names,
                    "server": number % 2,
                }
            )
        next(pairs)  # so that the next transport does not meet the same pairs
    return made
