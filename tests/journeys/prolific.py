"""A snippet with very large rows, on a site of its own: what fills the buffers of slow clients."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests import sites
from tests.servers import Server
from tests.sites import environment_of

#: A quarter of what it is by default.
BUFFER_BYTES = 256 * 1024
ROW_BYTES = 200_000
CHANGES = 40
#: What a server may take in the meantime for whatever it does.
GROWTH_BYTES = 40 * 1024 * 1024
SECONDS = 60.0
SERVERS = ("uvicorn", "daphne", "hypercorn")

PREPARE = f"""
from example_project.newsroom.models import Author
Author.objects.update_or_create(
    name="Prolific", defaults={{"role": "0", "bio": "-" * {ROW_BYTES}, "live": True}}
)
"""


def write(changes: int) -> str:
    """Return the code that changes the row so many times; ``role`` counts."""
    return f"""
import time
from example_project.newsroom.models import Author
author = Author.objects.get(name="Prolific")
for number in range(1, {changes} + 1):
    author.role = str(number)
    author.bio = chr(97 + number % 26) * {ROW_BYTES}
    author.save()
    time.sleep(0.1)  # two quick edits may be told as one
"""


def new_site(factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an empty site."""
    folder = factory.mktemp("prolific") / "site"
    shutil.copytree(sites.migrated(factory), folder)
    return folder


def new_server(program: str, site: Path, factory: pytest.TempPathFactory, **more: str) -> Server:
    """Return a server in one process: what it holds is what is measured."""
    return Server(
        factory.mktemp("log") / "server.log",
        {
            **environment_of(site),
            "MAX_BUFFER_BYTES": str(BUFFER_BYTES),
            "POLL_SECONDS": "0.05",
            **more,
        },
        *(("-w", "0") if program == "hypercorn" else ()),
        program=program,
        application="tests.journeys.observed:application",
    )


@asynccontextmanager
async def measured(process: psutil.Process) -> AsyncIterator[list[int]]:
    """Look at the memory of ``process`` within, all the time."""
    found = [process.memory_info().rss]

    async def measure() -> None:
        while True:
            await asyncio.sleep(0.05)
            found.append(process.memory_info().rss)

    measuring = asyncio.create_task(measure())
    try:
        yield found
    finally:
        measuring.cancel()


class SmallSocket:
    """A connection that offers the server a small window, and reads only when it is told to."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        # Before it connects: it is the window that the server is offered.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(SECONDS)
        self._socket.connect(("127.0.0.1", port))
        self._unread = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        while len(self._unread) < size:
            self._read()
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def take_until(self, end: bytes) -> bytes:
        """Return what comes up to ``end``, and that."""
        while end not in self._unread:
            self._read()
        return self.take(self._unread.index(end) + len(end))

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        received = self._socket.recv(65_536)
        assert received, "the connection has ended"
        self._unread += received
