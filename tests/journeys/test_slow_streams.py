"""Event streams that nobody reads, against each server: ended, alone, at a bounded price."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import psutil
import pytest

from tests.journeys import prolific
from tests.journeys.prolific import (
    CHANGES,
    GROWTH_BYTES,
    PREPARE,
    ROW_BYTES,
    SECONDS,
    SmallSocket,
    measured,
    write,
)
from tests.servers import Server, wait_until

pytestmark = pytest.mark.server

STALLED = 12
READERS = 3
#: As by default: with less a stream would sooner have carried all that it may carry than be full.
BUFFER_BYTES = 1024 * 1024
ADDRESS = "/live/events/?collection=authors"


@pytest.fixture(scope="module", params=prolific.SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    site = prolific.new_site(tmp_path_factory)
    buffer = {"MAX_BUFFER_BYTES": str(BUFFER_BYTES)}
    server = prolific.new_server(request.param, site, tmp_path_factory, **buffer)
    yield server
    server.stop()


class StalledStream:
    """An event stream by hand: it takes its first frame, and never reads again."""

    def __init__(self, server: Server) -> None:
        self._socket = SmallSocket(server.port)
        self._socket.send(f"GET {ADDRESS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self._socket.take_until(b"\nid: ")
        self.cursor = self._socket.take_until(b"\n").decode().strip()
        self._socket.take_until(b"\n\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def stalled(server: Server) -> Iterator[list[StalledStream]]:
    server.shell(PREPARE)
    streams: list[StalledStream] = []
    yield streams
    for stream in streams:
        stream.close()


class Reader:
    """A client that reads, and comes back when its stream ends."""

    def __init__(self, server: Server, *, cursor: str = "") -> None:
        self.server = server
        self.cursor = cursor
        self.live = asyncio.Event()
        self.numbers: list[int] = []

    @asynccontextmanager
    async def following(self) -> AsyncIterator[asyncio.Task[None]]:
        """Follow within; gives the task that ends with the last change."""
        task = asyncio.create_task(self._follow())
        try:
            async with asyncio.timeout(SECONDS):
                await self.live.wait()
            yield task
        finally:
            task.cancel()

    async def _follow(self) -> None:
        async with httpx.AsyncClient(timeout=SECONDS) as client:
            while CHANGES not in self.numbers:
                headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
                address = self.server.url + ADDRESS
                async with client.stream("GET", address, headers=headers) as response:
                    async for line in response.aiter_lines():
                        self._take(line)
                        if CHANGES in self.numbers:
                            return

    def _take(self, line: str) -> None:
        name, _, value = line.partition(": ")
        if name == "id":
            self.cursor = value
        elif name == "data":
            frame: Any = json.loads(value)
            assert "reset" not in frame, "nothing was lost"
            self.live.set()
            self.numbers += [int(row["role"]) for row in frame.get("data", ())]


async def test_those_who_do_not_read_are_cut_and_nobody_else_is(
    server: Server, stalled: list[StalledStream], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(STALLED):
        stalled.append(await asyncio.to_thread(StalledStream, server))
    process = psutil.Process(server.process.pid)
    readers = [Reader(server) for _ in range(READERS)]
    async with AsyncExitStack() as stack:
        following = [await stack.enter_async_context(reader.following()) for reader in readers]
        memory = await stack.enter_async_context(measured(process))
        writing = asyncio.create_task(asyncio.to_thread(server.shell, write(CHANGES)))
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*following)
        await writing
        await asyncio.to_thread(
            wait_until,
            lambda: server.ask("/debug/state")["sessions"] == 0,
            seconds=SECONDS,
            what="the end of the stalled ones' sessions",
        )
    growth = max(memory) - memory[0]
    cut = server.ask("/debug/state")["cut"]
    with capsys.disabled():
        print(
            f"\n{server.program}, {STALLED} streams that nobody reads, {CHANGES} changes of "
            f"{ROW_BYTES} bytes: at most {growth / 2**20:.1f} MB more; everybody else was told "
            f"{min(len(reader.numbers) for reader in readers) - 1} frames; "
            f"cut: {cut or 'nobody, each stream had carried what it may'}"
        )
    assert growth < GROWTH_BYTES
    assert all(reader.numbers == sorted(reader.numbers) for reader in readers), "in order"
    await asyncio.to_thread(
        wait_until,
        lambda: {one.status for one in process.net_connections("tcp")} == {"LISTEN"},
        what="the end of the stalled ones' connections",
    )
    assert "without completing response" not in server.log.read_text()


async def test_who_was_cut_resumes(server: Server, stalled: list[StalledStream]) -> None:
    stalled.append(await asyncio.to_thread(StalledStream, server))
    await asyncio.to_thread(server.shell, write(CHANGES))
    reader = Reader(server, cursor=stalled[0].cursor)
    async with reader.following() as following, asyncio.timeout(SECONDS):
        await following


async def test_a_server_stops_although_nobody_reads(
    server: Server, stalled: list[StalledStream]
) -> None:
    for _ in range(3):
        stalled.append(await asyncio.to_thread(StalledStream, server))
    await asyncio.to_thread(server.shell, write(20))  # more than their sockets hold
    server.terminate()
    await asyncio.to_thread(server.process.wait, SECONDS)
    await asyncio.to_thread(server.start)
