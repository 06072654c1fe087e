"""One server process of the stage, on a port of its own, with a clock that can be turned."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.service import Service
from tests.servers import answers, free_port


class Server(Service):
    """uvicorn with the example site."""

    def __init__(self, number: int, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(f"server{number}", folder)
        self.port = free_port()
        self.clock = folder / f"{self.name}.clock"
        self._environment = {**environment, "PORT": str(self.port)}
        self.turn_clock(0)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "uvicorn", "tests.chaos.asgi:application",
            "--host", "127.0.0.1", "--port", str(self.port), "--ws", "websockets-sansio",
            "--ws-per-message-deflate", "false", "--log-level", "warning",
            "--timeout-graceful-shutdown", "3",
        ]  # fmt: skip

    def environment(self) -> Mapping[str, str]:
        return {**self._environment, "CHAOS_CLOCK": str(self.clock)}

    def turn_clock(self, seconds: int) -> None:
        """Let the process believe that it is ``seconds`` later (or earlier) from now on."""
        self.clock.write_text(str(seconds))

    def answers(self) -> bool:
        return answers(f"{self.url}/api/v2/")

    def restart(self) -> None:
        """Ask it to end, as a deployment does, and start it again."""
        self.terminate()
        self.start()
