"""What the socket says is what ``GET`` says, to every asker, at every moment."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.conf import global_settings
from django.db import connection
from django.test import Client

from tests import sites
from tests.journeys.admin import Editor
from tests.live import caught_up, end, sync
from wagtail_live.testing import Frame, LiveClient

ROUNDS = 200
#: After so many operations all that the sockets ever said is compared, not only the last frames.
EVERYTHING_EVERY = 20
COLLECTIONS = ("pages", "images", "documents", "authors", "categories", "notices")
SHAPES: dict[str, list[dict[str, Any]]] = {
    "pages": [
        {"limit": 100},
        {"limit": 100, "type": "newsroom.ArticlePage", "fields": "*"},
        {
            "limit": 100,
            "type": "newsroom.ArticlePage",
            "fields": "_,id,title,author(name,role),tags",
        },
        {"limit": 100, "type": "newsroom.ArticlePage", "order": "-date", "locale": "de"},
        {"limit": 100, "descendant_of": "root", "fields": "slug,show_in_menus"},
    ],
    "images": [
        {"limit": 100},
        {"limit": 100, "fields": "*"},
        {"limit": 100, "fields": "_,id,width"},
    ],
    "documents": [{"limit": 100}, {"limit": 100, "fields": "*"}, {"limit": 100, "fields": "_,id"}],
    "authors": [
        {"limit": 100},
        {"limit": 100, "fields": "*"},
        {"limit": 100, "fields": "_,id,name"},
    ],
    "categories": [{"limit": 100}, {"limit": 100, "fields": "*"}, {"limit": 100, "order": "-slug"}],
    "notices": [
        {"limit": 100},
        {"limit": 100, "fields": "_,id,text"},
        {"limit": 100, "level": "info"},
    ],
}


#: Of what the newsroom's rows contain: no operation hides an image, and a category has no drafts.
PERHAPS_HIDDEN = ("authors/", "pages/")
SITES = ("localhost:8000", "gazette.localhost:8000")
#: In the JSON of REST, which says of a page what it contains whoever may see that.
PAGE_LINK = re.compile(r'<a linktype=\\"page\\" id=\\"(\d+)\\">')


def normal(value: Any) -> str:
    """Return JSON text that is equal, byte for byte, for equal JSON."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


class Asker:
    """One person: what REST tells them, and what their socket has told them so far."""

    def __init__(self, name: str, browser: Client, client: LiveClient) -> None:
        self.name = name
        self.browser = browser
        self.client = client
        self.queries: dict[str, tuple[str, dict[str, Any]]] = {}
        self.items: dict[str, tuple[str, int]] = {}
        self.state: dict[str, dict[Any, Any]] = {}

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """Return what REST says, without what it contains and does not give by itself."""
        text = self._read(path, query)
        if text is None:
            return None
        said = json.loads(PAGE_LINK.sub(self._followed, text))
        for row in said.get("items", [said]):
            row.update({name: self._given(value) for name, value in row.items() if name != "meta"})
            if "alias_of" in row.get("meta", {}):
                row["meta"]["alias_of"] = self._given(row["meta"]["alias_of"])
        return said

    def _given(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._given(one) for one in value]
        if not isinstance(value, dict):
            return value
        _, _, path = value.get("meta", {}).get("detail_url", "").partition("/api/v2/")
        if path.startswith(PERHAPS_HIDDEN) and not self._is_shown(path):
            return None
        return {name: self._given(one) for name, one in value.items()}

    def _read(self, path: str, query: dict[str, Any] | None = None) -> str | None:
        response = self.browser.get(f"/api/v2/{path}", query or {})
        return response.content.decode() if response.status_code == 200 else None

    def _followed(self, link: re.Match[str]) -> str:
        return link[0] if self._is_shown(f"pages/{link[1]}/") else "<a>"

    def _is_shown(self, path: str) -> bool:
        """Return whether REST gives what is at ``path``; a page, at the address of its own site."""
        sites = [{"site": site} for site in SITES] if path.startswith("pages/") else [{}]
        return any(self._read(path, query) is not None for query in sites)

    async def follow(self, uid: str, collection: str, query: dict[str, Any]) -> None:
        init = await self.client.subscribe(collection, query, uid=uid)
        assert init["event"] == "init", init
        self.queries[uid] = collection, query
        self.take(init)

    async def follow_item(self, uid: str, collection: str, key: int) -> Frame:
        answer = await self.client.subscribe(collection, item=key, uid=uid)
        if answer.get("event") == "init":
            self.items[uid] = collection, key
            self.take(answer)
        return answer

    def take(self, frame: Frame) -> None:
        """Do with a frame what a front end does with it."""
        assert frame["type"] == "subscription" and "status" not in frame, frame
        rows = self.state.setdefault(frame["uid"], {})
        data = frame["data"]
        match frame["event"]:
            case "init":
                rows.clear()
                listed = data if isinstance(data, list) else [data] if data else []
                rows.update({row["id"]: row for row in listed})
            case "create" | "update":
                rows.update({row["id"]: row for row in data})
            case "delete":
                for key in data:
                    rows.pop(key, None)

    def differences(self) -> list[str]:
        """Return where the socket's state is not what REST says now."""
        found = []
        for uid, (collection, query) in self.queries.items():
            listing = self.get(f"{collection}/", query)
            assert listing is None or listing["meta"]["total_count"] <= 100
            said = {row["id"]: row for row in listing["items"]} if listing else {}
            found += self._compare(uid, said)
        for uid, (collection, key) in self.items.items():
            detail = self.get(f"{collection}/{key}/")
            found += self._compare(uid, {key: detail} if detail else {})
        return found

    def touched_differences(self, frames: list[Frame]) -> list[str]:
        """Return where the last word of ``frames`` on an object is not what REST says now."""
        touched = {
            (frame["uid"], row if frame["event"] == "delete" else row["id"])
            for frame in frames
            for row in (frame["data"] if isinstance(frame["data"], list) else [frame["data"]])
        }
        found = []
        for uid in {uid for uid, _ in touched}:
            keys = [key for of, key in touched if of == uid]
            said = self._said(uid, keys)
            have = self.state[uid]
            found += [
                self._line(uid, key, have.get(key), said.get(key))
                for key in keys
                if normal(have.get(key)) != normal(said.get(key))
            ]
        return found

    def _said(self, uid: str, keys: list[Any]) -> dict[Any, Any]:
        """Return what REST says of ``keys``: one by one, or for many as one listing."""
        if uid in self.items:
            collection, key = self.items[uid]
            return {key: self.get(f"{collection}/{key}/")}
        collection, query = self.queries[uid]
        each = [{**query, "id": key} for key in keys] if len(keys) < 4 else [query]
        listings = [self.get(f"{collection}/", one) for one in each]
        return {row["id"]: row for listing in listings if listing for row in listing["items"]}

    def _compare(self, uid: str, said: dict[Any, Any]) -> list[str]:
        have = self.state[uid]
        return [
            self._line(uid, key, have.get(key), said.get(key))
            for key in said.keys() | have.keys()
            if normal(have.get(key)) != normal(said.get(key))
        ]

    def _line(self, uid: str, key: Any, have: Any, said: Any) -> str:
        return f"{self.name} {uid} {key}:\n  socket {normal(have)}\n  REST   {normal(said)}"


async def catch_up(askers: list[Asker]) -> list[tuple[Asker, Frame]]:
    """Give every asker all frames of what is committed now; return them."""
    await caught_up()
    heard = [(asker, frame) for asker in askers for frame in await asker.client.unheard()]
    for asker, frame in heard:
        asker.take(frame)
    return heard


@pytest.fixture
def newsroom(
    committed: None, settings: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The demo's content in this process."""
    seeded = sites.seeded(tmp_path_factory)
    shutil.copytree(seeded / "media", tmp_path / "media")
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.STORAGES = global_settings.STORAGES
    settings.PASSWORD_HASHERS = global_settings.PASSWORD_HASHERS
    with closing(sqlite3.connect(seeded / "demo.sqlite3")) as source:
        connection.ensure_connection()
        source.backup(connection.connection)


@pytest.fixture
async def askers(newsroom: None, settings: Any) -> AsyncIterator[list[Asker]]:
    settings.WAGTAIL_LIVE_MAX_SUBSCRIPTIONS = 1000
    settings.WAGTAIL_LIVE_HEARTBEAT_SECONDS = 600  # one asker is silent while the other compares

    def browsers() -> dict[str, Client]:
        public, member = Client(HTTP_HOST="localhost"), Client(HTTP_HOST="localhost")
        assert member.login(username="member", password="newsroom-demo")
        return {"public": public, "member": member}

    found = await sync(browsers)
    session = found["member"].cookies["sessionid"].value
    async with LiveClient() as public, LiveClient(cookies={"sessionid": session}) as member:
        yield [
            Asker("public", found["public"], public),
            Asker("member", found["member"], member),
        ]
    await end()


def aliases_that_the_api_shows(askers: list[Asker]) -> set[int]:
    """
    Return the pages that API v2 gives the public and Wagtail's own serving does not: aliases of
    restricted pages. The socket follows Wagtail's serving.
    """
    from wagtail.models import Page  # noqa: PLC0415  # needs the seeded registry

    return {
        page.pk
        for page in Page.objects.filter(alias_of__isnull=False)
        if page.get_view_restrictions().exists()
    }


async def test_every_object_in_every_shape_is_what_get_says(askers: list[Asker]) -> None:
    hidden = await sync(lambda: aliases_that_the_api_shows(askers))
    compared = 0
    for asker in askers:
        for collection in COLLECTIONS:
            for number, query in enumerate(SHAPES[collection]):
                await asker.follow(f"{collection} {number}", collection, query)
            listing = await sync(partial(asker.get, f"{collection}/", {"limit": 100}))
            for row in listing["items"]:
                answer = await asker.follow_item(
                    f"{collection} item {row['id']}", collection, row["id"]
                )
                if asker.name == "public" and row["id"] in hidden and collection == "pages":
                    assert answer["error"]["code"] == "FORBIDDEN"
                compared += 1
        for uid, have in asker.state.items():
            if uid.startswith("pages"):
                assert asker.name == "member" or not hidden & have.keys()
        differences = [
            one
            for one in await sync(asker.differences)
            if not any(f" {key}:" in one for key in hidden)
        ]
        assert differences == []
    print(f"\nparity: {compared} objects, alone and in {sum(map(len, SHAPES.values()))} listings")
    assert compared > 150


def compare(
    askers: list[Asker], heard: list[tuple[Asker, Frame]], *, everything: bool
) -> list[str]:
    """Return where the sockets differ from REST: in what they just said, or in all they said."""
    found = []
    for asker in askers:
        frames = [frame for whose, frame in heard if whose is asker]
        found += asker.differences() if everything else asker.touched_differences(frames)
    hidden = aliases_that_the_api_shows(askers)
    return [one for one in found if not any(f" {key}:" in one for key in hidden)]


@pytest.mark.parametrize("seed", [1])
async def test_parity_holds_after_each_of_many_admin_operations(
    askers: list[Asker], seed: int
) -> None:
    for asker in askers:
        for collection in COLLECTIONS:
            shapes = SHAPES[collection][1:4] if asker.name == "public" else SHAPES[collection][1:2]
            for number, query in enumerate(shapes):
                await asker.follow(f"{collection} {number}", collection, query)
        listing = await sync(partial(asker.get, "pages/", {"limit": 100}))
        for row in listing["items"][::8]:
            await asker.follow_item(f"pages item {row['id']}", "pages", row["id"])
    editor = await sync(lambda: Editor(Random(seed)))
    total, began = 0, time.monotonic()
    for number in range(1, ROUNDS + 1):
        done = await sync(editor.work)
        print(f"{number:4} {time.monotonic() - began:6.1f} s {done}")
        heard = await catch_up(askers)
        total += len(heard)

        everything = number % EVERYTHING_EVERY == 0
        differences = await sync(partial(compare, askers, heard, everything=everything))
        assert not differences, f"after operation {number}, {done}:\n" + "\n".join(differences)
    print(f"\nparity: {ROUNDS} admin operations, {total} frames, the last word always that of GET")
