"""
What this process counts for its operators: plain numbers, raised where it happens, without a lock.

They are for the eye: a number that two threads raise at once may come out one too low.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Since the process began: clients that were cut, by the name of the close code; failures."""

    cut: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    failed_at: float | None = None

    def failed(self) -> None:
        """The log could not be followed, or a live query not be answered."""
        self.failures += 1
        self.failed_at = time.monotonic()


counts = Counts()
