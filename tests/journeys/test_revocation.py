"""Rights that end in one process end on the connections of all others."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.requires import redis_bell
from tests.servers import Server
from tests.sites import environment_of

pytestmark = [pytest.mark.server, pytest.mark.measured]

CAUSES = ("logout", "password", "deactivated", "deleted", "session", "group")
HEAR_SECONDS = 60
QUERY = {"type": "newsroom.ArticlePage", "limit": 100, "fields": "title"}
#: Signs one reader in for each cause; an article is for their group alone.
ARRANGE = """
import json
from django.contrib.auth.models import Group, User
from django.test import Client
from wagtail.models import PageViewRestriction
from example_project.newsroom.models import ArticlePage
group = Group.objects.create(name="Readers")
page = ArticlePage.objects.live().public().first()
PageViewRestriction.objects.create(page=page, restriction_type="groups").groups.add(group)
keys = {}
for cause in CAUSES:
    user = User.objects.create_user(cause, password="demo")
    user.groups.add(group)
    browser = Client()
    browser.force_login(user)
    keys[cause] = browser.cookies["sessionid"].value
print(json.dumps({"page": page.pk, "keys": keys}))
"""
#: Ends the rights of each, and says when.
END = """
import json, time
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
browser = Client()
browser.cookies["sessionid"] = KEYS["logout"]
users = {user.username: user for user in User.objects.filter(username__in=CAUSES)}
users["password"].set_password("another")
users["deactivated"].is_active = False
ends = {
    "logout": browser.logout,
    "password": users["password"].save,
    "deactivated": users["deactivated"].save,
    "deleted": users["deleted"].delete,
    "session": Session.objects.filter(session_key=KEYS["session"]).delete,
    "group": users["group"].groups.clear,
}
at = {}
for cause in CAUSES:
    ends[cause]()
    at[cause] = time.time()
    time.sleep(1)
print(json.dumps(at))
"""


@pytest.fixture(params=["polling every second", "woken by Redis, without polling"])
def pair(request: pytest.FixtureRequest, seeded: Path, tmp_path: Path) -> Iterator[list[Server]]:
    """Two servers on one database; what one says wakes the other, or does not."""
    folder = tmp_path / "site"
    shutil.copytree(seeded, folder)
    environment = environment_of(folder)
    if "Redis" in request.param:
        environment |= redis_bell()
    servers = [
        Server(tmp_path / f"{name}.log", environment, wait=False) for name in ("one", "other")
    ]
    try:
        for server in servers:
            server.wait()
        yield servers
    finally:
        for server in servers:
            server.stop()


@asynccontextmanager
async def follower(server: Server, key: str) -> AsyncIterator[ClientConnection]:
    """Give a connection that follows the articles, and has had its base."""
    cookie = {"Cookie": f"sessionid={key}"}
    async with connect(server.socket_url, origin=server.url, additional_headers=cookie) as socket:  # type: ignore[arg-type]  # an origin is a text
        asked = {"type": "subscribe", "collection": "pages", "query": QUERY}
        await socket.send(json.dumps(asked))
        assert json.loads(await socket.recv())["event"] == "init"
        yield socket


async def end_of(socket: ClientConnection) -> tuple[float, Any]:
    """Return when the rights of ``socket`` ended, and how: a code, or the frames of a move."""
    frames: list[Any] = []
    try:
        while len(frames) < 2:
            frame = json.loads(await socket.recv())
            if frame["type"] == "ping":
                await socket.send(json.dumps({"type": "pong"}))
            else:
                frames.append(frame)
    except ConnectionClosed as closed:
        return time.time(), closed.rcvd and closed.rcvd.code
    return time.time(), frames


async def test_they_end_on_every_process(
    request: pytest.FixtureRequest, pair: list[Server], capsys: pytest.CaptureFixture[str]
) -> None:
    one = pair[0]
    arranged = await asyncio.to_thread(one.shell, f"CAUSES = {CAUSES!r}\n{ARRANGE}")
    found = json.loads(arranged.splitlines()[-1])
    async with AsyncExitStack() as stack:
        ends = {
            (cause, server.port): asyncio.create_task(
                end_of(await stack.enter_async_context(follower(server, found["keys"][cause])))
            )
            for cause in CAUSES
            for server in pair
        }
        code = f"CAUSES, KEYS = {CAUSES!r}, {found['keys']!r}\n{END}"
        at = json.loads((await asyncio.to_thread(one.shell, code)).splitlines()[-1])
        await asyncio.wait(ends.values(), timeout=HEAR_SECONDS)
        assert [who for who, task in ends.items() if not task.done()] == []
        told = {who: task.result() for who, task in ends.items()}
    for (cause, _), (_, how) in told.items():
        if cause == "group":
            deleted, fresh = how
            assert (deleted["event"], deleted["data"]) == ("delete", [found["page"]])
            assert fresh["reset"] == "access_changed"
        else:
            assert how == 4401
    waits = sorted(when - at[cause] for (cause, _), (when, _) in told.items())
    with capsys.disabled():
        print(
            f"\nrights that ended in another process: {len(waits)} connections told "
            f"{waits[0]:.2f} to {waits[-1]:.2f} s after the commit, "
            f"{request.node.callspec.params['pair']}"
        )
