"""Event streams from real servers: many on one connection, cut, stalled, behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived
from playwright.async_api import async_playwright

from tests import sites
from tests.journeys.certificate import Certificate
from tests.journeys.writer import Writer
from tests.requires import program
from tests.servers import Server, answers, free_port, wait_until
from tests.sites import environment_of

pytestmark = pytest.mark.server

APPLICATION = "tests.journeys.observed:application"
EVENTS = "/live/events/"
NOTICES = {"collection": "notices", "query": "limit=100"}
STREAMS = 60
CHANGES = 5
HEAR_SECONDS = 30.0


class TlsServer(Server):
    """hypercorn with TLS, and so with HTTP/2."""

    def __init__(self, log: Path, environment: dict[str, str], certificate: Certificate) -> None:
        self.certificate = certificate
        files = ("--certfile", str(certificate.file), "--keyfile", str(certificate.key))
        super().__init__(
            log, environment, *files, program="hypercorn", application=APPLICATION, wait=False
        )
        self.url = self.url.replace("http:", "https:")
        self.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/debug/state", verify=self.certificate.trust()).is_success
        return False


class Connection:
    """One HTTP/2 connection and what each of its streams has said, as text."""

    def __init__(self, server: TlsServer) -> None:
        self.server = server
        self.said: dict[int, bytes] = {}
        self.statuses: list[bytes] = []
        self._http = H2Connection()

    async def __aenter__(self) -> Self:
        trust = self.server.certificate.trust()
        trust.set_alpn_protocols(["h2"])
        self._reader, self._writer = await asyncio.open_connection(
            "localhost", self.server.port, ssl=trust
        )
        self._http.initiate_connection()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *details: object) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._writer.close()

    def get(self, address: str) -> None:
        stream = self._http.get_next_available_stream_id()
        self.said[stream] = b""
        asked = {
            ":method": "GET",
            ":scheme": "https",
            ":authority": f"localhost:{self.server.port}",
            ":path": address,
        }
        self._http.send_headers(stream, list(asked.items()), end_stream=True)
        self._flush()

    def leave(self, stream: int) -> None:
        self._http.reset_stream(stream, ErrorCodes.CANCEL)
        self._flush()

    async def until_all_say(self, text: str) -> None:
        async with asyncio.timeout(HEAR_SECONDS):
            while any(text.encode() not in said for said in self.said.values()):
                assert not self._reading.done(), self._reading
                await asyncio.sleep(0.01)

    async def _read(self) -> None:
        while True:
            self._flush()
            for event in self._http.receive_data(await self._reader.read(65536)):
                if isinstance(event, DataReceived):
                    self.said[event.stream_id] += event.data
                    self._http.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
                elif isinstance(event, ResponseReceived):
                    self.statuses.append(dict(event.headers)[b":status"])

    def _flush(self) -> None:
        self._writer.write(self._http.data_to_send())


class Follower:
    """What one stream has said; asked again with its last id, as a browser does."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.last_id = ""
        self.answers: list[str] = []
        self.texts: list[str] = []
        self.version = ""
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[Self]:
        """Read in the background for as long as the block lasts; it begins with the answer."""
        answered = len(self.answers)
        task = asyncio.create_task(self._follow())
        try:
            await self.until(lambda: len(self.answers) > answered, task)
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def until(self, condition: Any, task: asyncio.Task[None] | None = None) -> None:
        async with asyncio.timeout(HEAR_SECONDS):
            while not condition():
                assert task is None or not task.done(), task
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self._changed.wait()

    async def _follow(self) -> None:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        async with self.client.stream("GET", EVENTS, params=NOTICES, headers=headers) as response:
            assert response.status_code == 200
            self.version = response.http_version
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    self.last_id = value
                elif name == "data":
                    self._take(json.loads(value))
                self._changed.set()

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["event"] in {"init", "resume"}:
            self.answers.append(frame["event"])
        if frame["event"] in {"create", "update"}:
            self.texts += [row["text"] for row in frame["data"]]


def once(texts: list[str]) -> list[str]:
    """Leave out repetitions: after a resume the relay may tell the same again."""
    return list(dict.fromkeys(texts))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "site"
    shutil.copytree(sites.migrated(tmp_path_factory), folder)
    return folder


@pytest.fixture(scope="module")
def writer(site: Path) -> Iterator[Writer]:
    writer = Writer(environment_of(site))
    yield writer
    writer.close()


@pytest.fixture(scope="module")
def uvicorn(site: Path) -> Iterator[Server]:
    server = Server(site / "uvicorn.log", environment_of(site), application=APPLICATION)
    yield server
    server.stop()


async def until_left(url: str, trust: Any = True, tasks: int | None = None) -> int:
    """Return the number of tasks when the server has no follower, and no more than ``tasks``."""
    async with httpx.AsyncClient(base_url=url, verify=trust) as client:
        async with asyncio.timeout(HEAR_SECONDS):
            while True:
                now = (await client.get("/debug/state")).json()
                if now["followers"] == 0 and (tasks is None or now["tasks"] <= tasks):
                    return int(now["tasks"])
                await asyncio.sleep(0.05)


async def warm_up(client: httpx.AsyncClient) -> None:
    """Let the server start what it keeps: its relay, its threads."""
    async with Follower(client).following():
        pass


async def test_many_streams_on_one_http2_connection_hear_every_change(
    site: Path, writer: Writer, tmp_path: Path
) -> None:
    certificate = Certificate(tmp_path)
    server = TlsServer(tmp_path / "hypercorn.log", environment_of(site), certificate)
    texts = [f"To all, {number}" for number in range(CHANGES)]
    address = f"{EVENTS}?{httpx.QueryParams(NOTICES)}"
    try:
        async with Connection(server) as connection:
            connection.get(address)
            await connection.until_all_say('"init"')
        before = await until_left(server.url, certificate.trust())
        async with Connection(server) as connection:
            for _ in range(STREAMS):
                connection.get(address)
            await connection.until_all_say('"init"')
            for text in texts:
                await asyncio.to_thread(writer.write, text)
            await connection.until_all_say(texts[-1])
            assert connection.statuses == [b"200"] * STREAMS
            for said in connection.said.values():
                assert re.findall(r'"text":"(To all, \d+)"', said.decode()) == texts
            for stream in connection.said:
                connection.leave(stream)
            # The connection goes on, with some tasks of the server's own.
            await until_left(server.url, certificate.trust(), before + STREAMS // 10)
        await until_left(server.url, certificate.trust(), before)
    finally:
        server.stop()
    assert "Traceback" not in server.log.read_text()


async def test_who_was_cut_gets_the_whole_gap_and_nothing_stays_of_who_left(
    uvicorn: Server, writer: Writer
) -> None:
    async with httpx.AsyncClient(base_url=uvicorn.url, timeout=HEAR_SECONDS) as client:
        await warm_up(client)
        before = await until_left(uvicorn.url)
        followers = [Follower(client) for _ in range(10)]
        texts: list[str] = []
        for cut in range(3):
            async with contextlib.AsyncExitStack() as stack:
                for one in followers:
                    await stack.enter_async_context(one.following())
                texts.append(f"Heard, {cut}")
                await asyncio.to_thread(writer.write, texts[-1])
                for one in followers:
                    await one.until(lambda one=one, text=texts[-1]: text in one.texts)
            for number in range(2):
                texts.append(f"Missed, {cut}.{number}")
                await asyncio.to_thread(writer.write, texts[-1])
        async with contextlib.AsyncExitStack() as stack:
            for one in followers:
                await stack.enter_async_context(one.following())
                await one.until(lambda one=one: texts[-1] in one.texts)
        assert [sorted(once(one.texts)) for one in followers] == [sorted(texts)] * 10
        assert {tuple(one.answers) for one in followers} == {("init", "resume", "resume", "resume")}
        await until_left(uvicorn.url, tasks=before)
    assert "Traceback" not in uvicorn.log.read_text()


async def test_a_browsers_own_eventsource_misses_nothing_when_the_server_dies(
    site: Path, writer: Writer, tmp_path: Path
) -> None:
    chromium = program("chromium", "chromium-browser", "google-chrome", called="Chromium")
    server = Server(tmp_path / "server.log", environment_of(site))
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox"]
            )
            page = await browser.new_page()
            await page.goto(f"{server.url}/admin/login/")
            await page.evaluate(
                """(address) => {
                    window.frames_told = [];
                    const source = new EventSource(address);
                    source.onmessage = ({ data }) => frames_told.push(JSON.parse(data));
                }""",
                f"{EVENTS}?{httpx.QueryParams(NOTICES)}",
            )
            told = "(text) => frames_told.some((one) => JSON.stringify(one).includes(text))"
            await page.wait_for_function(told, arg='"init"')
            await asyncio.to_thread(writer.write, "Before the crash")
            await page.wait_for_function(told, arg="Before the crash")
            server.kill()
            await asyncio.to_thread(writer.write, "While it was away")
            server.start()
            await page.wait_for_function(told, arg="While it was away")
            await asyncio.to_thread(writer.write, "After the crash")
            await page.wait_for_function(told, arg="After the crash")
            frames = await page.evaluate("frames_told")
            await browser.close()
    finally:
        server.stop()
    events = [frame["event"] for frame in frames]
    assert (events.count("init"), events.count("resume")) == (1, 1)
    texts = [row["text"] for one in frames if one["event"] == "create" for row in one["data"]]
    assert once(texts) == ["Before the crash", "While it was away", "After the crash"]


async def test_a_proxy_that_buffers_lets_the_stream_through(
    uvicorn: Server, writer: Writer, tmp_path: Path
) -> None:
    port = free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path / kind};\n" for kind in kinds)
    file = tmp_path / "nginx.conf"
    file.write_text(
        f"pid {tmp_path / 'nginx.pid'};\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}proxy_buffering on;\nproxy_buffers 8 64k;\n"
        f"server {{\nlisten 127.0.0.1:{port};\n"
        f"location / {{ proxy_pass http://127.0.0.1:{uvicorn.port};\n"
        "proxy_set_header Host $http_host; }\n}\n}\n"
    )
    nginx = program("nginx", "/usr/sbin/nginx", called="nginx")
    with (tmp_path / "nginx.log").open("ab") as log:
        process = subprocess.Popen([nginx, "-c", str(file), "-p", str(tmp_path)], stderr=log)
    try:
        url = f"http://localhost:{port}"
        wait_until(lambda: answers(url), what="nginx's first answer")
        async with (
            httpx.AsyncClient(base_url=url, timeout=HEAR_SECONDS) as client,
            Follower(client).following() as follower,
        ):
            await asyncio.to_thread(writer.write, "Through nginx")
            await follower.until(lambda: "Through nginx" in follower.texts)
    finally:
        process.terminate()
        process.wait(10)


async def test_a_stalled_reader_delays_nobody(uvicorn: Server, writer: Writer) -> None:
    async with httpx.AsyncClient(base_url=uvicorn.url, timeout=HEAR_SECONDS) as client:
        await warm_up(client)
        before = await until_left(uvicorn.url)
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        stalled.connect(("127.0.0.1", uvicorn.port))
        address = f"{EVENTS}?{httpx.QueryParams(NOTICES)}"
        stalled.sendall(f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with Follower(client).following() as other:
            for number in range(CHANGES):
                await asyncio.to_thread(writer.write, f"Beside a stalled one, {number} {'x' * 50}")
            await other.until(lambda: len(other.texts) >= CHANGES)
        stalled.close()
        await until_left(uvicorn.url, tasks=before)
