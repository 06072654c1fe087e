"""
Several processes, one database: what one publishes, the followers of each other hear.

There are two servers, as on two hosts; the first has several workers.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pymysql
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.journeys.forms import HttpEditor
from tests.journeys.processes import DemoServer, demo_copy, demo_environment
from tests.requires import lacking, redis_bell
from tests.run import DATABASES, unreachable
from tests.servers import ROOT

pytestmark = pytest.mark.server

QUERY = {"type": "newsroom.ArticlePage", "limit": 100, "fields": "title"}
HEAR_SECONDS = 20.0
FOLLOWERS = 20
WORKERS = 4
#: So many spread over the workers.
SPREAD = 40
CHANGES = 30
#: Tables without migrations, which take half a minute, and a small newsroom in them.
BUILD = """
import django
django.setup()
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
settings.MIGRATION_MODULES = {app.label: None for app in apps.get_app_configs()}
settings.SILENCED_SYSTEM_CHECKS = ["models.W036"]
call_command("migrate", run_syncdb=True, verbosity=0)
from wagtail.models import Collection, Locale, Page
Locale.objects.create(language_code="en")
Page.add_root(title="Root", slug="root")
Collection.add_root(name="Root")
from tests import newsroom
newsroom.build()
newsroom.add_user("admin", is_staff=True, is_superuser=True)
"""


@dataclass
class Pair:
    """Two servers on one database; the first has several workers."""

    one: DemoServer
    other: DemoServer
    password: str
    has_bell: bool
    article: dict[str, Any] = field(default_factory=dict)

    def editor(self, server: DemoServer) -> HttpEditor:
        return HttpEditor(server.url, "admin", self.password)

    def publish(self, editor: HttpEditor, title: str) -> None:
        found = self.article
        editor.publish(found["id"], found["meta"]["slug"], title, found["author"]["id"])

    def close(self) -> None:
        for server in (self.one, self.other):
            server.stop()


def start_pair(environment: dict[str, str], folder: Path, password: str) -> Pair:
    # Between two questions a follower here reads nothing, for as long as a shell takes to start.
    environment = {**environment, "HEARTBEAT_SECONDS": "300"}
    servers = [
        DemoServer(folder / "one.log", environment, "--workers", str(WORKERS), wait=False),
        DemoServer(folder / "other.log", environment, wait=False),
    ]
    pair = Pair(*servers, password=password, has_bell="REDIS_URL" in environment)
    try:
        for server in servers:
            server.wait()
        query = "type=newsroom.ArticlePage&locale=en&fields=author,alias_of"
        items = pair.one.ask(f"/api/v2/pages/?{query}")["items"]
        pair.article = next(
            item for item in items if item["author"] and not item["meta"]["alias_of"]
        )
    except BaseException:
        pair.close()
        raise
    return pair


def sqlite(factory: pytest.TempPathFactory, **more: str) -> Iterator[Pair]:
    folder = demo_copy(factory, "processes")
    pair = start_pair(demo_environment(folder, **more), folder, "newsroom-demo")
    yield pair
    pair.close()


def served(kind: str, factory: pytest.TempPathFactory, **more: str) -> Iterator[Pair]:
    url = DATABASES[kind]
    if problem := unreachable(url):
        lacking(f"{kind} ({problem})")
    name = f"wagtail_live_{uuid4().hex[:12]}"
    named = urlsplit(url)._replace(path=f"/{name}").geturl()
    folder = factory.mktemp("processes")
    environment = demo_environment(folder, DATABASE_URL=named, **more)
    administer(kind, f"CREATE DATABASE {name}")
    try:
        run_python(BUILD, environment)
        pair = start_pair(environment, folder, "demo")
        yield pair
        pair.close()
    finally:
        administer(kind, f"DROP DATABASE {name}")


def administer(kind: str, statement: str) -> None:
    """Run a statement of ours about whole databases."""
    where = urlsplit(DATABASES[kind])
    if kind == "PostgreSQL":
        server = where._replace(scheme="postgresql", path="/postgres").geturl()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(statement.replace("DROP DATABASE ", "DROP DATABASE IF EXISTS "))
        return
    with (
        pymysql.connect(
            host=where.hostname,
            port=where.port or 3306,
            user=where.username,
            password=where.password or "",
        ) as connection,
        connection.cursor() as cursor,
    ):
        created = statement.startswith("CREATE")
        cursor.execute(statement + (" CHARACTER SET utf8mb4" if created else ""))


def run_python(code: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """SQLite and no broker: each process hears of the other's changes when it polls."""
    yield from sqlite(tmp_path_factory)


@pytest.fixture(params=["SQLite", "PostgreSQL", "MariaDB"])
def rung(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Redis is the bell, and nobody polls: what is heard was rung for."""
    more = redis_bell()
    if request.param == "SQLite":
        yield from sqlite(tmp_path_factory, **more)
    else:
        yield from served(request.param, tmp_path_factory, **more)


class Follower:
    """A client with what it has been told; when its server goes, it resumes at another."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rows: dict[int, str] = {}
        self.cursor: str | None = None
        self.answers: list[str] = []
        self.frames = 0
        self.socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        await self._subscribe()
        return self

    async def __aexit__(self, *details: object) -> None:
        if self.socket is not None:
            await self.socket.close()

    async def until(self, condition: Callable[[], bool], *, seconds: float = HEAR_SECONDS) -> None:
        """Take frames until ``condition()``; ``TimeoutError`` after ``seconds``."""
        async with asyncio.timeout(seconds):
            while not condition():
                await self._take()

    async def follow(self, *, elsewhere: str) -> None:
        """Take frames for ever; resume ``elsewhere`` when the server is gone."""
        while True:
            try:
                await self._take()
            except ConnectionClosed:
                self.url = elsewhere
                await self._subscribe()

    async def _subscribe(self) -> None:
        self.socket = await connect(self.url, compression=None)
        asked = {"type": "subscribe", "collection": "pages", "query": QUERY, "uid": "1"}
        if self.cursor is not None:
            asked["cursor"] = self.cursor
        await self.socket.send(json.dumps(asked))
        frames = self.frames
        while self.frames == frames:
            await self._take()

    async def _take(self) -> None:
        assert self.socket is not None
        frame = json.loads(await self.socket.recv())
        if frame["type"] == "ping":
            await self.socket.send(json.dumps({"type": "pong"}))
            return
        assert "status" not in frame, frame
        self.frames += 1
        self.cursor = frame.get("cursor", self.cursor)
        match frame["event"]:
            case "init" | "resume":
                self.answers.append(frame["event"])
                if frame["event"] == "init":
                    self.rows = {row["id"]: row["title"] for row in frame["data"]}
            case "create" | "update":
                self.rows |= {row["id"]: row["title"] for row in frame["data"]}
            case "delete":
                for key in frame["data"]:
                    self.rows.pop(key, None)


def shell_code(pair: Pair, title: str, *, scheduled: bool = False) -> str:
    publish = (
        "from django.utils import timezone\n"
        "page.save_revision(approved_go_live_at=timezone.now())\n"
        if scheduled
        else "page.save_revision().publish()\n"
    )
    return (
        "from example_project.newsroom.models import ArticlePage\n"
        f"page = ArticlePage.objects.get(pk={pair.article['id']})\n"
        f"page.title = {title!r}\n" + publish
    )


async def heard_by(
    pair: Pair, title: str, followers: list[Follower], *, seconds: float = HEAR_SECONDS
) -> None:
    """Return when all ``followers`` have heard ``title``."""
    key = pair.article["id"]
    await asyncio.gather(
        *(one.until(lambda one=one: one.rows[key] == title, seconds=seconds) for one in followers)
    )


async def ring_until_heard(pair: Pair, editor: HttpEditor, followers: list[Follower]) -> None:
    """
    Publish until the followers hear it: a process listens to the bell a moment after it got its
    first follower, and what was rung before that is for the poll to find.
    """
    for attempt in range(10):
        title = f"Can you hear me, {editor.url}? {attempt}"
        await asyncio.to_thread(pair.publish, editor, title)
        try:
            await heard_by(pair, title, followers, seconds=4)
        except TimeoutError:
            continue
        return
    raise AssertionError("the bell is not heard")


async def workers_in_use(server: DemoServer) -> set[int]:
    """Return the processes of ``server`` that have followers, as far as many questions tell."""
    states = [await asyncio.to_thread(server.ask, "/debug/state") for _ in range(10 * WORKERS)]
    return {state["pid"] for state in states if state["followers"]}


async def publish_everywhere(pair: Pair) -> None:
    """Publish in either server's admin, in a shell and by cron; the followers of all hear it."""
    async with AsyncExitStack() as stack:
        followers = [
            await stack.enter_async_context(Follower(url))
            for url in [pair.one.socket_url] * SPREAD + [pair.other.socket_url]
        ]
        assert len(await workers_in_use(pair.one)) > 1
        editor = await asyncio.to_thread(pair.editor, pair.one)
        second = await asyncio.to_thread(pair.editor, pair.other)
        if pair.has_bell:
            await ring_until_heard(pair, second, followers)
        await asyncio.to_thread(pair.publish, editor, "From the admin of one")
        await heard_by(pair, "From the admin of one", followers)
        await asyncio.to_thread(pair.publish, second, "From the admin of the other")
        await heard_by(pair, "From the admin of the other", followers)
        await asyncio.to_thread(pair.one.shell, shell_code(pair, "From a third process"))
        await heard_by(pair, "From a third process", followers)
        await asyncio.to_thread(pair.one.shell, shell_code(pair, "By cron", scheduled=True))
        await asyncio.to_thread(pair.one.manage, "publish_scheduled")
        await heard_by(pair, "By cron", followers)


async def test_without_a_broker_both_processes_hear_by_polling(plain: Pair) -> None:
    await publish_everywhere(plain)


async def test_with_redis_as_bell_both_processes_hear_without_polling(rung: Pair) -> None:
    await publish_everywhere(rung)


async def test_a_publisher_that_dies_right_after_its_commit_is_heard(plain: Pair) -> None:
    code = (
        "import os, signal\n"
        "from wagtail_live import log\n"
        "log.number_and_ring = lambda **how: os.kill(os.getpid(), signal.SIGKILL)\n"
        + shell_code(plain, "Its last words")
    )
    command = [sys.executable, "example_project/manage.py", "shell", "--no-imports", "-c", code]
    async with Follower(plain.one.socket_url) as one, Follower(plain.other.socket_url) as other:
        died = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=ROOT,
            env={**os.environ, **plain.other.environment},
            capture_output=True,
            check=False,
        )
        assert died.returncode == -signal.SIGKILL, died.stderr
        await heard_by(plain, "Its last words", [one, other])


async def test_followers_of_a_killed_process_resume_at_the_other_and_lose_nothing(
    plain: Pair,
) -> None:
    code = (
        "from example_project.newsroom.models import ArticlePage, SectionPage\n"
        f"keys = [{plain.article['id']}]\n"
        f"section = ArticlePage.objects.get(pk={plain.article['id']}).get_parent()\n"
        f"for number in range({CHANGES}):\n"
        "    if number % 3 == 0:\n"
        "        page = ArticlePage(title=f'New {number}', slug=f'new-{number}', lead='-')\n"
        "        section.add_child(instance=page)\n"
        "        keys.append(page.pk)\n"
        "    elif number % 7 == 0:\n"
        "        ArticlePage.objects.get(pk=keys.pop()).unpublish()\n"
        "    else:\n"
        "        page = ArticlePage.objects.get(pk=keys[number % len(keys)])\n"
        "        page.title = f'Change {number}'\n"
        "        page.save_revision().publish()\n"
    )
    async with AsyncExitStack() as stack:
        followers = [
            await stack.enter_async_context(Follower(plain.one.socket_url))
            for _ in range(FOLLOWERS)
        ]
        steady = await stack.enter_async_context(Follower(plain.other.socket_url))
        following = [
            asyncio.create_task(one.follow(elsewhere=plain.other.socket_url))
            for one in (*followers, steady)
        ]
        publishing = asyncio.create_task(asyncio.to_thread(plain.other.shell, code))
        try:
            async with asyncio.timeout(60):
                while min(one.frames for one in followers) < 3:
                    await asyncio.sleep(0.005)
                plain.one.kill()
                await publishing
                said = await asyncio.to_thread(listing, plain.other)
                while any(one.rows != said for one in (*followers, steady)):
                    assert not any(task.done() for task in following), following
                    await asyncio.sleep(0.02)
        finally:
            for task in following:
                task.cancel()
            await asyncio.wait([*following, publishing])
            if plain.one.process.poll() is not None:
                await asyncio.to_thread(plain.one.start)
    assert all(one.answers == ["init", "resume"] for one in followers), "a resume, not a new base"
    assert steady.answers == ["init"]


def listing(server: DemoServer) -> dict[int, str]:
    """
    Return what REST says of the followers' query, less what the policy takes away: an alias of a
    page that is not public, which API v2 lists all the same.
    """
    query = "&".join(f"{name}={value}" for name, value in QUERY.items())
    items = server.ask(f"/api/v2/pages/?{query},alias_of")["items"]
    public = {item["id"] for item in items}
    sources = {item["id"]: (item["meta"]["alias_of"] or item)["id"] for item in items}
    return {item["id"]: item["title"] for item in items if sources[item["id"]] in public}
