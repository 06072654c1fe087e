"""
How much one client may ask for: messages in a time, connections at once.

It counts and says what is too much; whoever asks does the refusing. The time is passed in.
"""

from __future__ import annotations

from enum import Enum, auto


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
