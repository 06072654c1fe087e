"""An editor in a process of its own, who writes a notice for each line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.servers import ROOT

CODE = """
import sys
from example_project.newsroom.models import Notice
print("ready", flush=True)
for line in sys.stdin:
    Notice.objects.create(text=line.strip())
    print("done", flush=True)
"""


class Writer:
    """The process; it ends when it is closed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "example_project/manage.py", "shell", "--no-imports", "-c"]
        self.process = subprocess.Popen(
            [*command, CODE],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("ready")

    def write(self, text: str) -> None:
        """Return when it is committed."""
        assert self.process.stdin
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        self._expect("done")

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()

    def _expect(self, word: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == word
