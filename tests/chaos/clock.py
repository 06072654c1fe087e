"""
A server's wall clock that can be turned from outside while it runs, by writing seconds to a file.

Turned is what Django, the package and the standard library read: `time.time`, `timezone.now`. With
libfaketime instead, Python's idle threads spin.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path

from django.utils import timezone

LOOK_SECONDS = 0.2


def follow(path: Path) -> None:
    """Let this process's clock follow the file at ``path``."""
    real_time, real_now, monotonic = time.time, timezone.now, time.monotonic
    looked = [0.0, 0.0]  # when, and what it said

    def ahead() -> float:
        if monotonic() - looked[0] > LOOK_SECONDS:
            looked[:] = monotonic(), float(path.read_text() or 0)
        return looked[1]

    def turned_now() -> datetime:
        return real_now() + timedelta(seconds=ahead())

    time.time = lambda: real_time() + ahead()
    timezone.now = turned_now
