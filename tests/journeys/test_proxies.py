"""The proxies' configurations of docs/how-to/production.md, word for word, before a real server."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.journeys.certificate import Certificate
from tests.journeys.processes import demo_copy
from tests.requires import program
from tests.servers import ROOT, Server, free_port, wait_until
from tests.sites import environment_of

pytestmark = pytest.mark.server

PAGE = (ROOT / "docs" / "how-to" / "production.md").read_text()
QUERY = {"type": "newsroom.ArticlePage", "fields": "title", "limit": 100}
QUERY_STRING = "type=newsroom.ArticlePage&fields=title&limit=100"
STREAMS = 20
HEAR_SECONDS = 20.0
PUBLISH = """
from example_project.newsroom.models import ArticlePage
page = ArticlePage.objects.get(pk={key})
page.title = {title!r}
page.save_revision().publish()
"""


def block(name: str) -> str:
    """Return the text of the code block called ``name``."""
    found = re.search(rf"```\{{code-block\}}[^`]*?:name: {name}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, name
    return found[1]


def nginx(folder: Path, server: Server, certificate: Certificate, port: int) -> list[str]:
    """Write the page's files, with our ports and paths; return the command that serves."""
    site = (
        block("nginx-conf")
        .replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        .replace("listen 443", f"listen 127.0.0.1:{port}")
        .replace("www.example.com", "localhost")
        .replace("/etc/ssl/mysite/fullchain.pem", str(certificate.file))
        .replace("/etc/ssl/mysite/key.pem", str(certificate.key))
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    # What a distribution's own nginx.conf has around the sites.
    http = f"access_log off;\ngzip on;\ngzip_types *;\n{folders}{site}"
    main = block("nginx-main").replace("worker_processes auto", "worker_processes 1")
    file = folder / "nginx.conf"
    file.write_text(
        f"pid {folder / 'nginx.pid'};\nerror_log stderr;\ndaemon off;\n{main}\nhttp {{\n{http}}}\n"
    )
    return [program("nginx", "/usr/sbin/nginx", called="nginx"), "-c", str(file), "-p", str(folder)]


def caddy(folder: Path, server: Server, certificate: Certificate, port: int) -> list[str]:
    """As above, for Caddy."""
    text = (
        block("caddyfile")
        .replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        .replace(
            "www.example.com {",
            f"localhost:{port} {{\n    tls {certificate.file} {certificate.key}",
        )
        .replace(
            "{\n    servers", "{\n    admin off\n    auto_https disable_redirects\n    servers", 1
        )
    )
    file = folder / "Caddyfile"
    file.write_text(text)
    command = [program("caddy", called="Caddy"), "run", "--adapter", "caddyfile"]
    return [*command, "--config", str(file)]


class Proxy:
    """A proxy before the site, spoken to by HTTPS."""

    def __init__(self, command: list[str], port: int, certificate: Certificate, log: Path) -> None:
        self.port = port
        self.url = f"https://localhost:{port}"
        self.trust = certificate.trust
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env={"HOME": str(log.parent)}
            )
        try:
            wait_until(self._answers, what=f"the proxy's first answer ({log.read_text()})")
        except BaseException:
            self.stop()
            raise

    def client(self, *, http2: bool = True) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url,
            http1=not http2,
            http2=http2,
            verify=self.trust(),
            timeout=HEAR_SECONDS,
        )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v2/", verify=self.trust()).status_code < 500
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = demo_copy(tmp_path_factory, "proxies")
    server = Server(folder / "server.log", environment_of(folder))
    yield server
    server.stop()


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    certificate, port = Certificate(folder), free_port()
    command = request.param(folder, server, certificate, port)
    proxy = Proxy(command, port, certificate, folder / "proxy.log")
    yield proxy
    proxy.stop()


async def publish(server: Server, title: str) -> None:
    asked = {"type": "newsroom.ArticlePage", "locale": "en", "fields": "alias_of"}
    items = httpx.get(f"{server.url}/api/v2/pages/", params=asked).json()["items"]
    key = next(item["id"] for item in items if not item["meta"]["alias_of"])
    await asyncio.to_thread(server.shell, PUBLISH.format(key=key, title=title))


async def events(response: httpx.Response) -> Any:
    """Yield the frames of a stream."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def titles(frame: dict[str, Any]) -> list[str]:
    return [row["title"] for row in frame.get("data", ())]


async def test_the_websocket_comes_through(proxy: Proxy, server: Server) -> None:
    address = proxy.url.replace("https", "wss") + "/websocket"
    async with connect(address, ssl=proxy.trust(), origin=proxy.url) as socket:
        await socket.send(json.dumps({"type": "subscribe", "collection": "pages", "query": QUERY}))
        assert json.loads(await socket.recv())["event"] == "init"
        await publish(server, f"Through the proxy {proxy.url}")
        async with asyncio.timeout(HEAR_SECONDS):
            while f"Through the proxy {proxy.url}" not in titles(json.loads(await socket.recv())):
                pass


async def test_many_event_streams_come_through_on_one_http2_connection(
    proxy: Proxy, server: Server
) -> None:
    began = asyncio.Semaphore(0)

    async def follow(client: httpx.AsyncClient, number: int) -> str:
        asked = {"collection": "pages", "query": QUERY_STRING, "uid": str(number)}
        async with client.stream("GET", "/live/events/", params=asked) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            assert "content-encoding" not in response.headers
            async for frame in events(response):
                if frame["event"] == "init":
                    began.release()
                elif f"All at once {proxy.url}" in titles(frame):
                    return response.http_version
        raise AssertionError("the stream ended")

    async with proxy.client() as client, asyncio.timeout(2 * HEAR_SECONDS):
        following = [asyncio.create_task(follow(client, number)) for number in range(STREAMS)]
        for _ in following:
            await began.acquire()
        await publish(server, f"All at once {proxy.url}")
        assert await asyncio.gather(*following) == ["HTTP/2"] * STREAMS
        own = [one for one in client._transport._pool.connections if not one.is_closed()]
        assert len(own) == 1


async def test_a_long_poll_comes_through(proxy: Proxy, server: Server) -> None:
    asked = {"collection": "pages", "query": QUERY_STRING}
    async with proxy.client(http2=False) as client:
        first = (await client.get("/live/changes/", params=asked)).json()
        waiting = asyncio.create_task(
            client.get(
                "/live/changes/",
                params={**asked, "cursor": first["cursor"], "wait": "60"},
                timeout=70,
            )
        )
        await publish(server, f"Worth waiting for {proxy.url}")
        frames = (await waiting).json()["frames"]
        assert any(f"Worth waiting for {proxy.url}" in titles(frame) for frame in frames)


def test_what_the_page_says_of_timeouts_fits_the_settings() -> None:
    heartbeat_seconds, longest_wait_seconds = 30, 60
    named = re.findall(r"proxy_(?:read|send)_timeout (\d+)s", block("nginx-conf"))
    assert len(named) == 4
    assert min(map(int, named)) > max(2 * heartbeat_seconds, longest_wait_seconds)
    [server_keeps] = re.findall(r"--timeout-keep-alive (\d+)", block("systemd-unit"))
    [nginx_keeps] = re.findall(r" keepalive_timeout (\d+)s", block("nginx-conf"))
    assert int(nginx_keeps) < int(server_keeps)
    assert {int(one) for one in re.findall(r"keepalive (\d+)s", block("caddyfile"))} == {60}
