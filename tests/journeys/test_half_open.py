"""Clients that are gone without a word, behind something that takes all that is sent to them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect

from tests.chaos.proxy import Fault, FaultProxy
from tests.journeys import prolific
from tests.servers import Server, wait_until

pytestmark = pytest.mark.server

CLIENTS = 5
HEARTBEAT_SECONDS = 0.2
SECONDS = 60.0
KEPT = ("sessions", "followers")


@pytest.fixture(scope="module", params=prolific.SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    site = prolific.new_site(tmp_path_factory)
    heartbeat = {"HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS)}
    server = prolific.new_server(request.param, site, tmp_path_factory, **heartbeat)
    yield server
    server.stop()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(server.port)
    await proxy.start()
    yield proxy
    await proxy.close()


@asynccontextmanager
async def socket(port: int) -> AsyncIterator[None]:
    """Follow on a WebSocket within, and answer pings for as long as they come."""

    async def answer_pings() -> None:
        async for _ in client:
            await client.send(json.dumps({"type": "pong"}))

    async with connect(f"ws://127.0.0.1:{port}/websocket", ping_interval=None) as client:
        await client.send(json.dumps({"type": "subscribe", "collection": "pages"}))
        while json.loads(await client.recv())["type"] == "ping":
            await client.send(json.dumps({"type": "pong"}))
        answering = asyncio.create_task(answer_pings())
        try:
            yield
        finally:
            answering.cancel()
            client.transport.abort()


@asynccontextmanager
async def stream(port: int) -> AsyncIterator[None]:
    """Follow on an event stream within."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /live/events/?collection=pages HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b'"event":"init"')
    yield
    writer.close()
    await writer.wait_closed()


async def until(server: Server, condition: Callable[[Any], bool]) -> None:
    """Return when the server's state fulfils ``condition``."""
    await asyncio.to_thread(
        wait_until,
        lambda: condition(server.ask("/debug/state")),
        seconds=SECONDS,
        what="the server's state",
    )


@pytest.mark.parametrize("following", [socket, stream])
async def test_the_server_ends_their_sessions_and_keeps_nothing_of_them(
    following: Any, server: Server, proxy: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(CLIENTS):
            await stack.enter_async_context(following(proxy.port))
        await until(server, lambda state: state["sessions"] == CLIENTS)
        proxy.begin(Fault.HALF_OPEN)
        began = time.monotonic()
        await until(server, lambda state: not any(state[name] for name in KEPT))
        heartbeats = (time.monotonic() - began) / HEARTBEAT_SECONDS
        with capsys.disabled():
            print(
                f"\n{server.program}, {CLIENTS} half-open, each a {following.__name__}: "
                f"the last session ended after {heartbeats:.0f} heartbeats of {HEARTBEAT_SECONDS} s"
            )
        if following is socket:  # after a stream the server would take another request
            process = psutil.Process(server.process.pid)
            await asyncio.to_thread(
                wait_until,
                lambda: {one.status for one in process.net_connections("tcp")} == {"LISTEN"},
                what="the end of their connections",
            )
