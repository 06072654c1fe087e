"""The demo's server holds on to nothing of those who came, followed and left."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from statistics import mean
from typing import Any

import psutil
import pytest
from django.db import connection
from websockets.asyncio.client import connect

from tests.journeys.processes import DemoServer, demo_copy, demo_environment
from wagtail_live import database, head
from wagtail_live.relay import LINGER_SECONDS

CYCLES = 1000
AT_ONCE = 50
WARM_UP = 300
#: What Python's allocator may still take for itself after the warm-up.
GROWTH_BYTES = 3 * 1024 * 1024
FOLLOWED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pages", {"query": {"type": "newsroom.ArticlePage", "order": "-date", "limit": 12}}),
    ("pages", {"query": {"fields": "title", "locale": "de"}}),
    ("authors", {"query": {}}),
    ("notices", {"query": {"active": True}}),
)
SAMPLES = 5
#: Figures that must not be more after everybody has left.
FLAT = ("tasks", "threads", "feeds", "live_queries", "followers", "files", "sockets", "databases")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    folder = demo_copy(tmp_path_factory, "endurance")
    server = DemoServer(folder / "server.log", demo_environment(folder))
    yield server
    server.stop()


class Watch:
    """The server's figures, from outside and from inside."""

    def __init__(self, server: DemoServer) -> None:
        self.server = server
        self.process = psutil.Process(server.process.pid)
        self.rss: list[int] = []

    def look(self) -> dict[str, int]:
        state: dict[str, int] = self.server.ask("/debug/state")
        paths = [file.path for file in self.process.open_files()]
        figures = {
            **state,
            "rss": self.process.memory_info().rss,
            "files": self.process.num_fds(),
            "sockets": len(self.process.net_connections()),
            "databases": sum(path.endswith(".sqlite3") for path in paths),
        }
        self.rss.append(figures["rss"])
        return figures

    async def when_left(self) -> dict[str, int]:
        """Return the figures once no query is kept for anybody."""
        return await self._when(lambda figures: not figures["feeds"])

    async def when_back_to(self, before: dict[str, int]) -> dict[str, int]:
        """Return the figures once nothing is more than ``before``, or what they are in the end."""
        return await self._when(lambda figures: all(figures[name] <= before[name] for name in FLAT))

    async def _when(self, condition: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        end = time.monotonic() + LINGER_SECONDS + 20
        while not condition(figures := await asyncio.to_thread(self.look)):
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.2)
        return figures


@pytest.mark.usefixtures("committed")
async def test_statements_of_earlier_jobs_are_not_kept_while_debugging(settings: Any) -> None:
    settings.DEBUG = True
    settings.WAGTAIL_LIVE_DATABASE_THREADS = 1
    await database.disconnect()

    def job() -> int:
        head.position()
        return len(connection.queries_log)

    kept = [await database.run(job) for _ in range(4)]
    await database.disconnect()
    # The first job makes what is missing, or connects.
    assert kept[1:] == [1, 1, 1]


async def come_follow_leave(url: str, number: int) -> None:
    async with connect(url, compression=None) as client:
        collection, more = FOLLOWED[number % len(FOLLOWED)]
        await client.send(json.dumps({"type": "subscribe", "collection": collection, **more}))
        init = json.loads(await client.recv())
        assert init["event"] == "init", init
        match number % 3:
            case 0:
                await client.send(json.dumps({"type": "unsubscribe"}))
                assert json.loads(await client.recv())["event"] == "unsubscribe"
            case 1:
                # Goes without a word, as a phone in a tunnel does.
                client.transport.abort()
            case _:
                pass


@pytest.mark.measured
@pytest.mark.server
async def test_a_thousand_who_come_and_go_leave_nothing_behind(
    server: DemoServer, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(server)
    before: dict[str, int] = {}
    rss: dict[int, float] = {}
    for done in range(0, CYCLES, AT_ONCE):
        numbers = range(done, done + AT_ONCE)
        await asyncio.gather(*(come_follow_leave(server.socket_url, n) for n in numbers))
        await asyncio.to_thread(watch.look)
        if done + AT_ONCE == WARM_UP:
            before = await watch.when_left()
            rss[WARM_UP] = mean(watch.rss[-SAMPLES:])
    after = await watch.when_back_to(before)
    rss[CYCLES] = mean(watch.rss[-SAMPLES:])
    growth = rss[CYCLES] - rss[WARM_UP]
    with capsys.disabled():
        print(f"\n{'':24} after {WARM_UP:5} after {CYCLES:5} comings and goings")
        print(f"{'rss, MB':24} {rss[WARM_UP] / 2**20:11.1f} {rss[CYCLES] / 2**20:11.1f}")
        for name in (*FLAT, "objects", "pool_connections_opened"):
            print(f"{name:24} {before[name]:11} {after[name]:11}")
    assert before["feeds"] == before["followers"] == 0
    more = {name: after[name] - before[name] for name in FLAT if after[name] > before[name]}
    assert not more
    assert growth < GROWTH_BYTES, f"{growth / 2**20:.1f} MB more"
    assert after["pool_connections_opened"] == before["pool_connections_opened"]
