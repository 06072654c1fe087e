"""An operator stops a server: every client is told, whatever the server, and the process ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests import sites
from tests.servers import Server
from tests.sites import environment_of

pytestmark = pytest.mark.server

CLIENTS = 20
#: Until the process has ended and everybody knows; far beyond what it takes, as machines are slow.
END_SECONDS = 15.0

SERVERS = {
    "uvicorn": ("uvicorn",),
    "uvicorn on asyncio": ("uvicorn", "--loop", "asyncio"),
    "uvicorn, two workers": ("uvicorn", "--workers", "2"),
    "daphne": ("daphne",),
    "hypercorn": ("hypercorn",),
    "hypercorn, two workers on uvloop": ("hypercorn", "-w", "2", "-k", "uvloop"),
    "hypercorn, all its processes at once": ("hypercorn", "-w", "1"),
    "hypercorn in one process": ("hypercorn", "-w", "0"),
    "hypercorn in one process on uvloop": ("hypercorn", "-w", "0", "-k", "uvloop"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("goodbye") / "site"
    shutil.copytree(sites.migrated(tmp_path_factory), folder)
    return folder


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, site: Path, tmp_path: Path) -> Iterator[Server]:
    program, *options = SERVERS[request.param]
    server = Server(tmp_path / "server.log", environment_of(site), *options, program=program)
    yield server
    server.stop()


async def following(server: Server) -> ClientConnection:
    client = await connect(server.socket_url, compression=None)
    await client.send(json.dumps({"type": "subscribe", "collection": "pages"}))
    assert json.loads(await client.recv())["event"] == "init"
    return client


async def end_of(client: ClientConnection) -> tuple[float, int, str]:
    """Read to the end; return when it came, with which close code and reason."""
    try:
        while True:
            await client.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "the connection broke without a goodbye"
        return time.monotonic(), closed.rcvd.code, closed.rcvd.reason


async def last_of(answer: asyncio.StreamReader) -> float:
    """Read to the end; return when it came."""
    await answer.read()
    return time.monotonic()


@asynccontextmanager
async def waiting(
    server: Server, path: str, *, until: bytes = b""
) -> AsyncIterator[asyncio.StreamReader]:
    """Ask, and give the rest of the answer, from behind ``until``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    if until:
        await reader.readuntil(until)
    yield reader
    writer.close()
    await writer.wait_closed()


async def test_everybody_is_told_and_the_process_ends(
    server: Server, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    async with AsyncExitStack() as stack:
        clients = [await following(server) for _ in range(CLIENTS)]
        for client in clients:
            stack.push_async_callback(client.close)
        page = await asyncio.to_thread(server.ask, "/live/changes/?collection=pages")
        query = urlencode({"collection": "pages", "cursor": page["cursor"], "wait": 60})
        stream = "/live/events/?collection=pages"
        answers = [
            await stack.enter_async_context(waiting(server, stream, until=b'"event":"init"')),
            await stack.enter_async_context(waiting(server, f"/live/changes/?{query}")),
        ]
        began = time.monotonic()
        if "at once" in request.node.name:  # as systemd does
            os.killpg(server.process.pid, signal.SIGTERM)
        else:
            server.terminate()
        async with asyncio.timeout(END_SECONDS):
            ended = asyncio.create_task(asyncio.to_thread(server.process.wait))
            told = await asyncio.gather(*map(end_of, clients))
            heard = await asyncio.gather(*map(last_of, answers))
            await ended
            end = time.monotonic()
    last = max(when for when, _, _ in told)
    with capsys.disabled():
        print(
            f"\n{request.node.callspec.id}: {CLIENTS} sockets were told within "
            f"{1000 * (last - began):.0f} ms, a stream and a waiting request ended after "
            f"{1000 * (max(heard) - began):.0f} ms, the process after {end - began:.1f} s"
        )
    assert {(code, reason) for _, code, reason in told} == {(1012, "SERVICE_RESTART")}
