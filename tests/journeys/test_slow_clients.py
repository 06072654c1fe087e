"""Clients that read slowly or not at all, against each server: cut, alone, at a bounded price."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

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

#: Without a bound it would be up to eight megabytes for each.
STALLED = 12
READERS = 3
AUTHORS = {"type": "subscribe", "collection": "authors", "uid": "a"}


@pytest.fixture(scope="module", params=prolific.SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    site = prolific.new_site(tmp_path_factory)
    server = prolific.new_server(request.param, site, tmp_path_factory)
    yield server
    server.stop()


class StalledClient:
    """A WebSocket by hand: it takes its first answer, and never reads again until it is told to."""

    def __init__(self, server: Server) -> None:
        self._socket = SmallSocket(server.port)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.send(
            "GET /websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = self._socket.take_until(b"\r\n\r\n")
        assert b" 101 " in answer, answer
        self._say(AUTHORS)
        self.cursor = self._frame()["cursor"]

    def _say(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        assert len(text) < 126
        # A mask of zeroes leaves the text as it is.
        self._socket.send(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)

    def _frame(self) -> Any:
        first, size = self._socket.take(2)
        assert first == 0x81, "a whole text frame"
        if size == 126:
            [size] = struct.unpack("!H", self._socket.take(2))
        elif size == 127:
            [size] = struct.unpack("!Q", self._socket.take(8))
        return json.loads(self._socket.take(size))

    def claim_to_read(self) -> None:
        """Answer a ping that was not read."""
        self._say({"type": "pong"})

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def following(
    server: Server, message: dict[str, Any], **options: Any
) -> AsyncIterator[tuple[ClientConnection, Any]]:
    """Give a client and the first answer that it was given."""
    async with connect(server.socket_url, compression=None, max_size=None, **options) as client:
        await client.send(json.dumps(message))
        yield client, await told(client)


async def told(client: ClientConnection) -> Any:
    """Return the next frame that is no ping; answer those."""
    while (frame := json.loads(await client.recv()))["type"] == "ping":
        await client.send(json.dumps({"type": "pong"}))
    return frame


async def until_the_last(client: ClientConnection, *, pause: float = 0.0) -> list[int]:
    """Return the numbers of the changes that the client was told, up to the last."""
    numbers = [0]
    async with asyncio.timeout(SECONDS):
        while numbers[-1] != CHANGES:
            await asyncio.sleep(pause)
            frame = await told(client)
            assert frame["event"] == "update", frame["event"]
            numbers.append(int(frame["data"][0]["role"]))
    return numbers


def cut(server: Server) -> int:
    """Return how many the server has cut until now."""
    return int(server.ask("/debug/state")["cut"].get("SLOW_CONSUMER", 0))


async def or_cut(following: Any) -> str:
    try:
        await following
    except ConnectionClosed as closed:
        return str(closed.rcvd)
    return "kept up"


@pytest.fixture
def stalled() -> Iterator[list[StalledClient]]:
    clients: list[StalledClient] = []
    yield clients
    for client in clients:
        client.close()


async def test_those_who_do_not_read_are_cut_and_nobody_else_is(
    server: Server, stalled: list[StalledClient], capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(server.shell, PREPARE)
    for _ in range(STALLED):
        stalled.append(await asyncio.to_thread(StalledClient, server))
    before = cut(server)
    async with (
        following(server, AUTHORS) as (one, _),
        following(server, AUTHORS) as (two, _),
        following(server, AUTHORS) as (three, _),
        # 128 KB wait in the client, and it takes one frame in 20 ms.
        following(server, AUTHORS, max_queue=1) as (slow, _),
        measured(psutil.Process(server.process.pid)) as memory,
    ):
        writing = asyncio.create_task(asyncio.to_thread(server.shell, write(CHANGES)))
        *heard, throttled = await asyncio.gather(
            *map(until_the_last, (one, two, three)), or_cut(until_the_last(slow, pause=0.02))
        )
        await writing
        await asyncio.to_thread(
            wait_until,
            lambda: server.ask("/debug/state")["sessions"] <= READERS + 1,
            seconds=SECONDS,
            what="the end of the stalled ones' sessions",
        )
        growth = max(memory) - memory[0]
        with capsys.disabled():
            print(
                f"\n{server.program}, {STALLED} who stop reading, {CHANGES} changes of {ROW_BYTES} "
                f"bytes: at most {growth / 2**20:.1f} MB more; everybody else was told "
                f"{min(map(len, heard)) - 1} frames; a slow one: {throttled}"
            )
    assert cut(server) - before == STALLED + (throttled != "kept up")
    assert all(numbers == sorted(numbers) for numbers in heard), "in the order of the changes"
    assert growth < GROWTH_BYTES
    resume = {**AUTHORS, "cursor": stalled[0].cursor}
    async with following(server, resume) as (client, answer):
        assert answer["event"] == "resume"
        update = await told(client)
        assert (update["event"], update["data"][0]["role"]) == ("update", str(CHANGES))


async def test_those_who_only_claim_to_read_are_cut_as_well(
    server: Server, stalled: list[StalledClient], capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(server.shell, PREPARE)
    for _ in range(STALLED):
        stalled.append(await asyncio.to_thread(StalledClient, server))
    before = cut(server)

    async def claim(client: StalledClient) -> None:
        with contextlib.suppress(OSError):
            while True:
                client.claim_to_read()
                await asyncio.sleep(0.1)  # more often, and they would be cut for saying too much

    claiming = [asyncio.create_task(claim(client)) for client in stalled]
    async with measured(psutil.Process(server.process.pid)) as memory:
        await asyncio.to_thread(server.shell, write(CHANGES))
        await asyncio.wait_for(asyncio.gather(*claiming), SECONDS)
    growth = max(memory) - memory[0]
    with capsys.disabled():
        print(
            f"\n{server.program}, {STALLED} who answer what they have not read: at most "
            f"{growth / 2**20:.1f} MB more"
        )
    assert cut(server) - before == STALLED
    assert growth < GROWTH_BYTES


async def test_a_server_stops_although_its_clients_do_not_read(
    server: Server, stalled: list[StalledClient]
) -> None:
    await asyncio.to_thread(server.shell, PREPARE)
    for _ in range(3):
        stalled.append(await asyncio.to_thread(StalledClient, server))
    async with following(server, AUTHORS) as (client, _):
        # More than their sockets hold, and not enough to be cut for.
        await asyncio.to_thread(server.shell, write(2))
        while (await told(client))["data"][0]["role"] != "2":
            pass
        server.terminate()
        await asyncio.to_thread(server.process.wait, SECONDS)
    await asyncio.to_thread(server.start)


async def test_a_client_that_reads_gets_far_more_than_the_bound_at_once(server: Server) -> None:
    await asyncio.to_thread(server.shell, PREPARE)
    async with connect(server.socket_url, compression=None, max_size=None) as client:
        for uid in map(str, range(40)):  # eight megabytes; the bound is a quarter of one
            await client.send(json.dumps({**AUTHORS, "uid": uid}))
        async with asyncio.timeout(SECONDS):
            answers = [await told(client) for _ in range(40)]
    assert {answer["event"] for answer in answers} == {"init"}
    assert {answer["uid"] for answer in answers} == set(map(str, range(40)))
