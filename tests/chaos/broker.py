"""The bell's Redis: a private one."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.chaos.service import Service, program
from tests.servers import free_port


class Redis(Service):
    """A Redis that keeps nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__("redis", folder)
        self.path = program("redis-server")
        self.port = free_port()

    def command(self) -> list[str]:
        return [
            self.path, "--bind", "127.0.0.1", "--port", str(self.port),
            "--save", "", "--appendonly", "no", "--dir", str(self.folder),
        ]  # fmt: skip

    def answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
