"""
Many journaling clients in one process: `python -m tests.chaos.clients CONFIG`.

Each follows its scopes on its transport, keeps its cursors, and when it loses its server comes back
by itself, at the other one, by the advice that it was given.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from tests.chaos.journal import Journal

#: Of the settings: what says nothing for so long is gone.
SILENCE_SECONDS = 5.0
CONNECT_SECONDS = 4.0
RETRY_SECONDS = 0.5
#: What says that the subscription holds nothing, and what that it could not be answered now.
FINAL = {"FORBIDDEN", "INVALID_QUERY"}
LOST = (OSError, TimeoutError, WebSocketException, InvalidHandshake, httpx.HTTPError)


class Client:
    """One client: its scopes, its cursors, its way back."""

    def __init__(self, config: dict[str, Any], run: dict[str, Any], journal: Journal) -> None:
        self.id: str = config["id"]
        self.scopes: dict[str, dict[str, Any]] = {
            name: run["scopes"][name] for name in config["scopes"]
        }
        self.headers = {"Origin": run["origin"]}
        if cookie := run["cookies"][config["asker"]]:
            self.headers["Cookie"] = cookie
        self.ports: list[int] = run["ports"]
        self.server: int = config["server"]
        self.journal = journal
        self.chance = random.Random(f"{run['seed']}-{self.id}")
        self.cursors: dict[str, str] = {}
        self.advice_seconds = 1.0

    @property
    def port(self) -> int:
        return self.ports[self.server % len(self.ports)]

    def write(self, kind: str, **record: Any) -> None:
        self.journal.write(kind=kind, c=self.id, **record)

    async def live(self) -> None:
        """Follow for ever."""
        while True:
            with contextlib.suppress(*LOST):
                await self.talk()
            self.write("lost")
            self.server += 1
            await asyncio.sleep(self.chance.random() * self.advice_seconds)

    async def talk(self) -> None:
        """Follow until the connection is lost."""
        raise NotImplementedError

    def request(self, scope: str) -> dict[str, Any]:
        """Return the members of `subscribe`, and journal that it is asked."""
        cursor = self.cursors.get(scope)
        self.write("ask", s=scope, cursor=cursor)
        asked = dict(self.scopes[scope])
        return asked if cursor is None else {**asked, "cursor": cursor}

    def take(self, scope: str, frame: dict[str, Any]) -> bool:
        """Journal and remember a frame; return whether the subscription is still there."""
        self.write("frame", s=scope, frame=frame)
        self.advice_seconds = frame.get("reconnect_seconds", self.advice_seconds)
        if frame.get("status") == "error":
            if frame["type"] == "subscription" or frame["error"]["code"] in FINAL:
                self.cursors.pop(scope, None)
            return False
        if "cursor" in frame:
            self.cursors[scope] = frame["cursor"]
        return True


class WebSocketClient(Client):
    """All its scopes on one socket."""

    async def talk(self) -> None:
        async with connect(
            f"ws://localhost:{self.port}/websocket",
            additional_headers=self.headers,
            compression=None,
            ping_interval=None,
            open_timeout=CONNECT_SECONDS,
            close_timeout=1,
            max_size=None,
            proxy=None,
        ) as socket:
            asking: set[asyncio.Task[None]] = set()
            try:
                for scope in self.scopes:
                    await self._ask(socket, scope)
                while True:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        frame = json.loads(await socket.recv())
                    if frame["type"] == "ping":
                        await socket.send('{"type":"pong"}')
                    elif "uid" in frame and not self.take(frame["uid"], frame):
                        task = asyncio.create_task(self._ask_later(socket, frame["uid"]))
                        asking.add(task)
                        task.add_done_callback(asking.discard)
            finally:
                for task in asking:
                    task.cancel()

    async def _ask(self, socket: Any, scope: str) -> None:
        asked = {"type": "subscribe", **self.request(scope), "uid": scope}
        await socket.send(json.dumps(asked))

    async def _ask_later(self, socket: Any, scope: str) -> None:
        with contextlib.suppress(*LOST):
            await asyncio.sleep(RETRY_SECONDS + self.chance.random())
            await self._ask(socket, scope)


class LiarClient(WebSocketClient):
    """Leaves often and returns with cursors that are old, another's or forged."""

    STAY_SECONDS = 3.0

    def __init__(self, config: dict[str, Any], run: dict[str, Any], journal: Journal) -> None:
        super().__init__(config, run, journal)
        self.kept: list[tuple[str, str]] = []

    async def talk(self) -> None:
        async with asyncio.timeout(self.STAY_SECONDS * (0.5 + self.chance.random())):
            await super().talk()

    def take(self, scope: str, frame: dict[str, Any]) -> bool:
        if "cursor" in frame:
            self.kept.append((scope, frame["cursor"]))
        return super().take(scope, frame)

    def request(self, scope: str) -> dict[str, Any]:
        own = [cursor for name, cursor in self.kept if name == scope]
        foreign = [cursor for name, cursor in self.kept if name != scope]
        match self.chance.choice(["newest", "old", "foreign", "forged", "none"]):
            case "old" if own:
                self.cursors[scope] = self.chance.choice(own)
            case "foreign" if foreign:
                self.cursors[scope] = self.chance.choice(foreign)
            case "forged" if own:
                cursor = own[-1]
                at = self.chance.randrange(len(cursor) - 1)
                self.cursors[scope] = cursor[:at] + cursor[at:].swapcase()
            case "none":
                self.cursors.pop(scope, None)
        return super().request(scope)


class EventsClient(Client):
    """One scope as server-sent events, by GET, as a browser's EventSource does it."""

    async def talk(self) -> None:
        [scope] = self.scopes
        asked = self.request(scope)
        headers = dict(self.headers)
        if cursor := asked.pop("cursor", None):
            headers["Last-Event-ID"] = cursor
        timeout = httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS)
        async with (
            httpx.AsyncClient(timeout=timeout, trust_env=False) as browser,
            browser.stream(
                "GET",
                f"http://localhost:{self.port}/live/events/",
                params=parameters(asked),
                headers=headers,
            ) as answer,
        ):
            if answer.status_code != 200:
                self._refused(scope, json.loads(await answer.aread()))
                return
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    frame = json.loads(line[5:])
                    if frame["type"] != "ping" and not self.take(scope, frame):
                        await asyncio.sleep(RETRY_SECONDS)
                        return

    def _refused(self, scope: str, frame: dict[str, Any]) -> None:
        self.take(scope, frame)


class ChangesClient(Client):
    """One scope by asking the change feed again and again, with a long poll."""

    WAIT_SECONDS = 3

    async def talk(self) -> None:
        [scope] = self.scopes
        timeout = httpx.Timeout(CONNECT_SECONDS, read=self.WAIT_SECONDS + SILENCE_SECONDS)
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as program:
            while True:
                answer = await program.get(
                    f"http://localhost:{self.port}/live/changes/",
                    params={**parameters(self.request(scope)), "wait": self.WAIT_SECONDS},
                    headers=self.headers,
                )
                body = answer.json()
                if answer.status_code != 200:
                    self.take(scope, body)
                    await asyncio.sleep(RETRY_SECONDS)
                    return
                for frame in body["frames"]:
                    self.take(scope, frame)
                if cursor := body.get("cursor"):
                    self.cursors[scope] = cursor
                self.write("polled", s=scope, cursor=cursor)


def parameters(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a `subscribe` as parameters of an address."""
    query = "&".join(f"{name}={value}" for name, value in asked["query"].items())
    return {**asked, "query": query}


KINDS: dict[str, type[Client]] = {
    "websocket": WebSocketClient,
    "liar": LiarClient,
    "events": EventsClient,
    "changes": ChangesClient,
}


async def main(run: dict[str, Any]) -> None:
    journal = Journal(Path(run["journal"]))
    async with asyncio.TaskGroup() as group:
        for config in run["clients"]:
            if config["transport"] in KINDS:
                client = KINDS[config["transport"]](config, run, journal)
                group.create_task(client.live())


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
