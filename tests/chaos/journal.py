"""What somebody saw or did, one JSON object per line, with the machine's monotonic time."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """Appends records; each is with the kernel before ``write`` returns, so a kill loses none."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._lock = threading.Lock()

    def write(self, **record: Any) -> None:
        """Append ``record`` with the time in ``t`` unless it brings its own."""
        record.setdefault("t", round(time.monotonic(), 4))
        line = json.dumps(record, separators=(",", ":")) + "\n"
        with self._lock:
            os.write(self._file, line.encode())


class Reader:
    """Reads what was appended since it last looked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def __iter__(self) -> Iterator[Record]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    return
                self._offset += len(line)
                yield json.loads(line)


def read(path: Path) -> list[Record]:
    """Return all records of the journal at ``path``; none when it was never begun."""
    return list(Reader(path))
