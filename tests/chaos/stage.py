"""Everything that runs: database, Redis, two servers, proxies between, the writer, the clients."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.chaos.broker import Redis
from tests.chaos.databases import KINDS, Database
from tests.chaos.journal import Journal, Record
from tests.chaos.logbook import Logbook
from tests.chaos.nemesis import SERVERS
from tests.chaos.proxy import FaultProxy
from tests.chaos.scopes import Scope, scopes
from tests.chaos.server import Server
from tests.chaos.service import Lacking, Service, program
from tests.chaos.view import Row
from tests.chaos.writing import Writing
from tests.servers import ROOT, free_port

ORIGIN = "http://localhost:3000"
#: How long a log that was put back may take to grow beyond where it was.
REGROW_SECONDS = 30.0
#: What a prune leaves: longer than a transaction is held open, and than the logbook takes to read.
KEPT_SECONDS = 10.0


class _Program(Service):
    """A program that the stage only starts and ends."""

    def __init__(self, name: str, folder: Path, command: list[str]) -> None:
        super().__init__(name, folder)
        self._command = command

    def command(self) -> list[str]:
        return self._command


def node() -> list[str]:
    """Return the command of a Node.js that has WebSockets, or raise ``Lacking``."""
    command = [program("node"), "--experimental-websocket"]
    tried = subprocess.run([*command, "--eval", "WebSocket"], capture_output=True, check=False)
    if tried.returncode:
        raise Lacking("a Node.js with WebSockets (20.10 or newer)")
    return command


class Stage:
    """One run's programs; ``say`` tells what goes on."""

    def __init__(
        self, kind: str, folder: Path, *, seed: int, rate: float, bug: str = "", say: Any = print
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.rate = rate
        self.bug = bug
        self.say = say
        self.began = time.monotonic()
        self.node = node()
        self.database: Database = KINDS[kind](folder)
        self.redis = Redis(folder) if kind != "sqlite" else None
        self.journal = Journal(folder / "nemesis.jsonl")
        self.logbook = Logbook(self.database, Journal(folder / "log.jsonl"))
        self.servers: list[Server] = []
        self.client_proxies: list[FaultProxy] = []
        self.backend_proxies: dict[str, FaultProxy] = {}
        self.writings: list[Writing] = []
        self.followers: list[Service] = []
        self.world: dict[str, Any] = {}
        self.scopes: dict[str, Scope] = {}
        self.backed_up = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def writer(self) -> Writing:
        return self.writings[0]

    async def build(self) -> None:
        """Start the database and Redis, make the content, start the servers and the writer."""
        await asyncio.to_thread(self.database.prepare)
        if self.redis is not None:
            await asyncio.to_thread(self.redis.start)
        await self._connect_backends()
        await asyncio.to_thread(self._make_content)
        environment = self._environment(proxied=True)
        self.servers = [Server(number, self.folder, environment) for number in range(SERVERS)]
        for server in self.servers:
            server.launch()
        for server in self.servers:
            await asyncio.to_thread(server.wait)
            proxy = FaultProxy(server.port)
            await proxy.start(free_port())
            self.client_proxies.append(proxy)
        self._tasks.append(asyncio.create_task(self.logbook.watch()))

    async def write(self) -> None:
        """Let the writer begin."""
        arguments = [str(self.seed), str(self.began), str(self.rate)]
        for role in ("main", "scheduled"):
            writing = Writing(role, self.folder, self._environment(proxied=False), *arguments)
            self.writings.append(writing)
            writing.launch()
        for writing in self.writings:
            await asyncio.to_thread(writing.wait)

    async def follow(self, clients: list[Record]) -> None:
        """Let the clients come."""
        config = {
            "clients": clients,
            "ports": [proxy.port for proxy in self.client_proxies],
            "scopes": {name: scope.request() for name, scope in self.scopes.items()},
            "cookies": self.world["cookies"],
            "origin": ORIGIN,
            "seed": self.seed,
            "bug": self.bug,
            "journal": str(self.folder / "clients.jsonl"),
            "scriptJournal": str(self.folder / "scripts.jsonl"),
        }
        path = self.folder / "clients.json"
        path.write_text(json.dumps(config))
        script = str(Path(__file__).with_name("client.mjs"))
        scripts = [*self.node, "--no-warnings", script, str(path)]
        python = [sys.executable, "-m", "tests.chaos.clients", str(path)]
        self.followers = [
            _Program("clients", self.folder, python),
            _Program("scripts", self.folder, scripts),
        ]
        for follower in self.followers:
            follower.launch()

    async def back_up(self) -> None:
        """Take a backup while nothing is being written."""
        await self._pause()
        self.backed_up = time.monotonic()
        await asyncio.to_thread(self.database.backup)
        self._resume()

    async def restore(self) -> None:
        """Put the backup back."""
        if not self.backed_up:
            return
        await self._rest()
        alone = not self.database.restores_in_place
        if alone:
            for server in self.servers:
                await asyncio.to_thread(server.terminate)
        await self._put_back()
        if alone:
            for server in self.servers:
                server.launch()
            for server in self.servers:
                await asyncio.to_thread(server.wait)

    async def restore_behind(self, server: Server) -> None:
        """Put the backup back while ``server`` sleeps, until the log is as long as it knew it."""
        if not self.backed_up:
            return
        await self._rest()
        known = self.logbook.after
        await self._freeze_without_locks(server)
        try:
            await self._put_back()
            end = time.monotonic() + REGROW_SECONDS
            while self.logbook.after <= known and time.monotonic() < end:
                await asyncio.sleep(0.2)
                await self.logbook.read()
            if self.logbook.after <= known:
                self.say(f"the log did not grow beyond {known} within {REGROW_SECONDS:g} s")
        finally:
            server.thaw()

    async def prune(self) -> None:
        """Shorten the log to its last seconds, as an operator may."""
        hours = str(KEPT_SECONDS / 3600)
        await asyncio.to_thread(self.manage, "live_prune", "--hours", hours, check=False)

    async def finish(self) -> None:
        """Let the writer say its last words, and wait until the log has them all."""
        for writing in self.writings:
            await asyncio.to_thread(writing.say, "finish")
        await self.logbook.read_to_the_end()

    def ask(self, scope: Scope, asker: str) -> dict[str, Row]:
        """Return what REST says to ``asker``, by key."""
        asked = scope.request()
        query = "&".join(f"{name}={value}" for name, value in asked["query"].items())
        item = f"{asked['item']}/" if "item" in asked else ""
        url = f"{self.servers[0].url}/api/v2/{scope.collection}/{item}?{query}"
        cookie = self.world["cookies"][asker]
        request = urllib.request.Request(url, headers={"Cookie": cookie} if cookie else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                body = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code in {400, 403, 404}:  # the item, or the page that the query names
                return {}
            raise
        rows = body.get("items", [body])
        return {f"{scope.collection}:{row['id']}": row for row in rows}

    def resources(self) -> list[dict[str, int]]:
        """Return what each server holds."""
        found = []
        for server in self.servers:
            with urllib.request.urlopen(f"{server.url}/chaos/", timeout=30) as response:
                found.append(json.load(response))
        return found

    def manage(self, *arguments: str, check: bool = True) -> None:
        """Run a management command beside the servers."""
        done = subprocess.run(
            [sys.executable, "example_project/manage.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **self._environment(proxied=False)},
            capture_output=True,
            check=False,
        )
        if done.returncode:
            self.say(f"manage.py {arguments[0]} failed: {done.stderr.decode()[-200:]}")
            if check:
                raise RuntimeError(f"manage.py {arguments[0]} failed")

    def leave(self) -> None:
        """Let the clients go."""
        for follower in self.followers:
            follower.terminate()

    async def close(self) -> None:
        """End everything that was started."""
        for task in self._tasks:
            task.cancel()
        database = [self.database.service] if self.database.service is not None else []
        redis = [self.redis] if self.redis is not None else []
        for service in [*self.followers, *self.writings, *self.servers, *redis, *database]:
            service.thaw()
            await asyncio.to_thread(service.kill)
        for proxy in [*self.client_proxies, *self.backend_proxies.values()]:
            await proxy.close()

    async def _connect_backends(self) -> None:
        ports = {"database": self.database.port, "redis": self.redis and self.redis.port}
        for name, port in ports.items():
            if port is not None:
                proxy = self.backend_proxies[name] = FaultProxy(port)
                await proxy.start(free_port())

    def _make_content(self) -> None:
        path = self.folder / "world.json"
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos.site", str(path)],
            cwd=ROOT,
            env={**os.environ, **self._environment(proxied=False)},
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the content could not be made: {done.stderr.decode()[-2000:]}")
        self.world = json.loads(path.read_text())
        self.scopes = scopes(self.world["objects"])

    def _environment(self, *, proxied: bool) -> dict[str, str]:
        database, redis = self.backend_proxies.get("database"), self.backend_proxies.get("redis")
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "PYTHONPATH": str(ROOT),
            "NEWSROOM_VAR": str(self.folder),
            "DATABASE_URL": self.database.url(database.port if proxied and database else None),
            "FRONTEND_PORT": "3000",
            "DEBUG": "0",
            "SECRET_KEY": "",
        }
        if self.redis is not None:
            port = redis.port if proxied and redis else self.redis.port
            environment["REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
        if proxied and self.bug:
            objects = self.world["objects"]
            hidden = next(key for key, state in objects.items() if state.get("slug") == "hidden0")
            environment |= {"CHAOS_PLANT": self.bug, "CHAOS_HIDDEN": hidden.partition(":")[2]}
        return environment

    async def _rest(self) -> None:
        """Let the writer pause, and wait until the log has all that it has written."""
        await self._pause()
        await self.logbook.read_to_the_end()

    async def _put_back(self) -> None:
        began = time.monotonic()
        await asyncio.to_thread(self.database.restore)
        self.logbook.begin_epoch(began, self.backed_up)
        self._resume()

    async def _freeze_without_locks(self, server: Server) -> None:
        server.freeze()
        while not await asyncio.to_thread(self.database.is_free):
            server.thaw()
            await asyncio.sleep(0.1)
            server.freeze()

    async def _pause(self) -> None:
        for writing in self.writings:
            await asyncio.to_thread(writing.say, "pause")

    def _resume(self) -> None:
        for writing in self.writings:
            writing.say("resume", answer=False)
