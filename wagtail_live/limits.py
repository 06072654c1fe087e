"""
How much one client may ask for: messages in a time, connections at once.

It counts and says what is too much; whoever asks does the refusing. The time is passed in.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from ipaddress import IPv6Address, ip_address, ip_network
from threading import Lock

logger = logging.getLogger("wagtail_live")


class Verdict(Enum):
    """What to do with a message."""

    WELCOME = auto()  #: take it
    TOO_OFTEN = auto()  #: refuse it
    ENOUGH = auto()  #: this client does not stop: end its connection


class Pace:
    """
    How often one client may speak: ``burst`` times at once, and ``per_second`` for as long as it
    likes.

    A bucket of tokens. What is refused is owed: a client that goes on all the same runs into as
    much debt as there was credit, and that is enough.
    """

    __slots__ = ("_burst", "_left", "_per_second", "_when")

    def __init__(self, *, burst: int, per_second: float, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._when = now

    def take(self, now: float) -> Verdict:
        """Count one message that came ``now``, in seconds."""
        earned = (now - self._when) * self._per_second
        self._when = now
        self._left = min(self._left + earned, self._burst) - 1
        if self._left >= 0:
            return Verdict.WELCOME
        return Verdict.TOO_OFTEN if self._left > -self._burst else Verdict.ENOUGH

    def give_back(self) -> None:
        """The last message was asked for: it does not count."""
        self._left += 1


class Places:
    """Who has how many of something at once: of one name only so many."""

    def __init__(self) -> None:
        self._taken: Counter[Hashable] = Counter()
        # Under WSGI each request has a thread of its own.
        self._lock = Lock()

    def __len__(self) -> int:
        """How many names there are that have any."""
        return len(self._taken)

    @contextmanager
    def one(self, name: Hashable | None, most: int) -> Iterator[bool]:
        """Within: ``name`` has one more. Give False when it has ``most``; None is not counted."""
        if name is None:
            yield True
        elif not self._take(name, most):
            logger.info("one connection more is refused: there are %d", most)
            yield False
        else:
            try:
                yield True
            finally:
                self._give_back(name)

    def _take(self, name: Hashable, most: int) -> bool:
        with self._lock:
            free = self._taken[name] < most
            self._taken[name] += free
            return free

    def _give_back(self, name: Hashable) -> None:
        with self._lock:
            self._taken[name] -= 1
            if not self._taken[name]:
                del self._taken[name]


#: What is said to who must come again later, in seconds.
AGAIN = {"Retry-After": "30"}
#: The connections of this process, by where they come from.
addresses = Places()
#: ...and by who is signed in.
users = Places()


def visitor(hops: list[str], trusted_proxies: int) -> str | None:
    """
    Return where a visitor comes from, as far as it can be told apart from others.

    ``hops``: the address of who asks us, last, and before it those that ``X-Forwarded-For`` names;
    only what the last ``trusted_proxies`` of them say counts. None is for what is no address of the
    internet: that is a proxy nobody told us of, or a network of the site's own. Of IPv6 whoever has
    an address has 2**64 of them: they count as one.
    """
    if not hops:
        return None
    said = hops[-1 - min(trusted_proxies, len(hops) - 1)].strip()
    if said.count(":") == 1:  # some proxies add the port
        said = said.partition(":")[0]
    try:
        found = ip_address(said)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            network = ip_network((int(found) >> 64 << 64, 64))
            return str(network) if found.is_global else None
        found = found.ipv4_mapped
    return str(found) if found.is_global else None
