"""The writer's processes, seen from the stage: started, paused, killed, asked to finish."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.service import Service

#: A killed writer's journal is at its end; its successor begins another.
PATIENCE_SECONDS = 120


class Writing(Service):
    """One process of the writer, steered through its input."""

    def __init__(
        self, role: str, folder: Path, environment: Mapping[str, str], *arguments: str
    ) -> None:
        super().__init__(f"writer-{role}", folder)
        self.role = role
        self.lives = 0
        self._environment = environment
        self._arguments = arguments

    @property
    def journals(self) -> list[Path]:
        return [self._journal(life) for life in range(1, self.lives + 1)]

    def _journal(self, life: int) -> Path:
        return self.folder / f"{self.name}-{life}.jsonl"

    def command(self) -> list[str]:
        seed, began, rate = self._arguments
        return [
            sys.executable, "-m", "tests.chaos.writer",
            self.role, str(self._journal(self.lives)), f"{seed}-{self.lives}", began, rate,
        ]  # fmt: skip

    def environment(self) -> Mapping[str, str]:
        return self._environment

    def launch(self) -> None:
        self.lives += 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environment()},
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )

    def answers(self) -> bool:
        path = self._journal(self.lives)
        return path.exists() and path.stat().st_size > 0

    def say(self, word: str, *, answer: bool = True) -> None:
        """Tell it ``word``; wait for its answer."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()
        if answer and not self.process.stdout.readline():
            raise RuntimeError(f"{self.name} ended before it answered: see {self.log}")
