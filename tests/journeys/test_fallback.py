"""The example front end, unchanged, behind a proxy that lets no WebSocket through."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from example_project.frontend_server import frontend_server
from tests.journeys.writer import Writer
from tests.servers import Server, free_port, wait_until
from tests.sites import environment_of

pytestmark = [pytest.mark.browser, pytest.mark.server]

STREAM = b"POST /live/events/ "
WAIT = 30_000


class Proxy:
    """Passes on plain requests, refuses WebSockets, counts both and the streams that are open."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.passes_sockets = False
        self.sockets = 0
        self.streams = 0
        self.most_streams = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.port: int = listening.result(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """End every connection."""

        def end() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        self._loop.call_soon_threadsafe(end)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._server.close()
        self._loop.close()

    async def _listen(self) -> int:
        port = free_port()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        return port

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"\r\nupgrade: websocket" in head.lower():
                self.sockets += 1
                if not self.passes_sockets:
                    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    return
            up, down = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                await self._pass(head, reader, down, up, writer)
            finally:
                down.close()
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _pass(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        down: asyncio.StreamWriter,
        up: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        has_stream = False

        async def requests() -> None:
            nonlocal has_stream
            piece = head
            while piece:
                if STREAM in piece and not has_stream:
                    has_stream = True
                    self.streams += 1
                    self.most_streams = max(self.most_streams, self.streams)
                down.write(piece)
                await down.drain()
                piece = await reader.read(65_536)

        async def answers() -> None:
            while piece := await up.read(65_536):
                writer.write(piece)
                await writer.drain()

        ways = [asyncio.ensure_future(requests()), asyncio.ensure_future(answers())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.streams -= has_stream


@pytest.fixture(scope="module")
def site(seeded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fallback") / "site"
    shutil.copytree(seeded, folder)
    environment = {**environment_of(folder), "FRONTEND_PORT": str(free_port())}
    server = Server(folder / "server.log", environment)
    yield server
    server.stop()


@pytest.fixture
def writer(site: Server) -> Iterator[Writer]:
    writer = Writer(site.environment)
    yield writer
    writer.close()


@pytest.fixture
def proxy(site: Server) -> Iterator[Proxy]:
    proxy = Proxy(site.port)
    yield proxy
    proxy.close()


@pytest.fixture
def frontend(site: Server, proxy: Proxy) -> Iterator[str]:
    port = int(site.environment["FRONTEND_PORT"])
    server = frontend_server(port, proxy.port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


def opened(context: BrowserContext, url: str) -> Page:
    """Return a tab that shows the front page, and is connected."""
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#status")).to_have_attribute("data-state", "connected", timeout=WAIT)
    expect(page.locator("[data-part=title]").first).not_to_be_empty(timeout=WAIT)
    return page


def shows(page: Page, *texts: str) -> None:
    for text in texts:
        expect(page.locator("#notices")).to_contain_text(text, timeout=WAIT)


def test_the_page_goes_on_over_the_event_stream_until_a_websocket_gets_through_again(
    writer: Writer, proxy: Proxy, frontend: str, context: BrowserContext
) -> None:
    page = opened(context, frontend)
    assert proxy.sockets == 2
    assert proxy.streams == 1
    writer.write("Heard in spite of a proxy")
    shows(page, "Heard in spite of a proxy")
    proxy.passes_sockets = True
    proxy.cut()
    page.evaluate("dispatchEvent(new Event('online'))")
    wait_until(lambda: proxy.sockets == 3, what="the third WebSocket")
    expect(page.locator("#status")).to_have_attribute("data-state", "connected", timeout=WAIT)
    writer.write("Back on a WebSocket")
    shows(page, "Back on a WebSocket")
    wait_until(lambda: proxy.streams == 0, what="the end of the stream")


def test_two_tabs_share_one_stream_and_the_second_goes_on_when_the_first_is_closed(
    writer: Writer, proxy: Proxy, frontend: str, context: BrowserContext
) -> None:
    first = opened(context, frontend)
    second = opened(context, frontend)
    wait_until(lambda: proxy.streams == 1, what="one stream for both")
    texts = [f"Notice {number} of five" for number in range(1, 6)]
    writer.write(texts[0])
    shows(first, texts[0])
    first.close()
    for text in texts[1:]:
        writer.write(text)
    shows(second, *texts)
    wait_until(lambda: proxy.streams == 1, what="one stream for the tab that is left")
    assert proxy.most_streams <= 2, "one is opened while the other still ends"
