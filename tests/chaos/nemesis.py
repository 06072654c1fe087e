"""
What is broken when: a schedule from a seed, and the hands that carry it out.

Each fault ends by itself; the journal says from when to when it lasted and on what.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.proxy import Fault

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

SERVERS = 2
#: Nothing is broken before the clients have their base, and near the end all must heal.
CALM_SHARE = 0.06
#: A backup is taken then; nothing is broken meanwhile.
BACKUP_SHARE = 0.2


@dataclass(frozen=True)
class Stroke:
    """One fault of the schedule."""

    at: float
    fault: str
    server: int
    seconds: float


#: By fault: how long it lasts, from and to.
EVERYWHERE: dict[str, tuple[float, float]] = {
    "kill server": (0.5, 2.0),
    "freeze server": (2.0, 6.0),
    "roll servers": (0.0, 0.0),
    "cut clients": (0.0, 0.0),
    "half-close clients": (0.0, 0.0),
    "stall clients": (2.0, 4.0),
    "half-open clients": (5.5, 6.5),
    "split clients": (2.0, 3.0),
    "throttle clients": (2.0, 4.0),
    "turn clock": (3.0, 5.0),
    "prune": (0.0, 0.0),
    "kill writer": (0.5, 1.0),
    "restore backup": (0.0, 0.0),
    "restore behind a frozen server": (0.0, 0.0),
}
WITH_REDIS = {
    "kill redis": (1.0, 2.0),
    "freeze redis": (2.0, 3.0),
    "stall redis": (2.0, 3.0),
    "cut redis": (0.0, 0.0),
}
WITH_DATABASE_SERVER = {
    "kill database": (0.5, 1.5),
    "freeze database": (2.0, 3.0),
    "stall database": (1.0, 3.0),
    "cut database": (0.0, 0.0),
    "half-open database": (2.0, 3.0),
    "terminate connections": (0.0, 0.0),
}
#: What every minute has; the rest is drawn.
ALWAYS = (
    "kill server",
    "freeze server",
    "roll servers",
    "cut clients",
    "stall clients",
    "half-open clients",
    "split clients",
    "turn clock",
    "prune",
    "kill redis",
    "kill database",
    "freeze database",
    "restore backup",
    "restore behind a frozen server",
)
STROKES_PER_MINUTE = 16


def faults(*, redis: bool, database_server: bool) -> dict[str, tuple[float, float]]:
    """Return what can be broken on a stage."""
    return {
        **EVERYWHERE,
        **(WITH_REDIS if redis else {}),
        **(WITH_DATABASE_SERVER if database_server else {}),
    }


def schedule(seed: int, seconds: float, possible: dict[str, tuple[float, float]]) -> list[Stroke]:
    """Return the strokes of a run: the same for the same seed, length and stage."""
    chance = random.Random(seed)
    count = max(1, round(seconds * STROKES_PER_MINUTE / 60))
    chosen: list[str] = []
    while len(chosen) < count:
        always = [fault for fault in ALWAYS if fault in possible]
        others = [fault for fault in possible if fault not in ALWAYS]
        chance.shuffle(always)
        chance.shuffle(others)
        round_ = [*always, *others][: max(len(always), STROKES_PER_MINUTE)]
        chance.shuffle(round_)
        chosen += round_
    chosen = chosen[:count]
    # The backup must have been taken before.
    late = [fault for fault in chosen if fault.startswith("restore")]
    chosen = [fault for fault in chosen if not fault.startswith("restore")]
    for fault in late:
        chosen.insert(chance.randrange(len(chosen) // 2, len(chosen) + 1), fault)
    calm = seconds * CALM_SHARE
    gap = (seconds - 2 * calm) / count
    strokes = []
    for number, fault in enumerate(chosen):
        low, high = possible[fault]
        at = calm + number * gap
        strokes.append(
            Stroke(
                round(at, 2), fault, chance.randrange(SERVERS), round(chance.uniform(low, high), 2)
            )
        )
    strokes.append(Stroke(round(seconds * BACKUP_SHARE, 2), "back up", 0, 0.0))
    return sorted(strokes, key=lambda stroke: stroke.at)


class Nemesis:
    """Carries out a schedule on a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._locks: dict[str, asyncio.Lock] = {}

    async def run(self, strokes: list[Stroke]) -> None:
        """Carry out ``strokes``, each at its time, and return when all have ended."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for stroke in strokes:
                await asyncio.sleep(max(0.0, began + stroke.at - time.monotonic()))
                group.create_task(self._strike(stroke))

    async def _strike(self, stroke: Stroke) -> None:
        verb, _, target = stroke.fault.partition(" ")
        whole = "restore" in stroke.fault or stroke.fault in {"roll servers", "back up"}
        targets = (
            sorted({"server0", "server1", "database", "redis", "writer"})
            if whole
            else [f"server{stroke.server}" if target in {"server", "clients"} else target or verb]
        )
        locks = [self._locks.setdefault(name, asyncio.Lock()) for name in targets]
        for lock in locks:
            await lock.acquire()
        try:
            began = time.monotonic()
            self.stage.say(f"{stroke.fault} ({stroke.server}) {stroke.seconds:g} s")
            await HANDS[stroke.fault](self.stage, stroke)
            self.stage.journal.write(
                kind="backup" if stroke.fault == "back up" else "fault",
                fault=stroke.fault,
                server=stroke.server,
                began=round(began, 3),
            )
        finally:
            for lock in locks:
                lock.release()


async def _kill_server(stage: Stage, stroke: Stroke) -> None:
    server = stage.servers[stroke.server]
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(stroke.seconds)
    await asyncio.to_thread(server.start)


async def _freeze_server(stage: Stage, stroke: Stroke) -> None:
    server = stage.servers[stroke.server]
    server.freeze()
    await asyncio.sleep(stroke.seconds)
    server.thaw()


async def _roll(stage: Stage, stroke: Stroke) -> None:
    for server in stage.servers:
        await asyncio.to_thread(server.restart)


async def _cut_clients(stage: Stage, stroke: Stroke) -> None:
    await stage.client_proxies[stroke.server].cut()


async def _half_close(stage: Stage, stroke: Stroke) -> None:
    await stage.client_proxies[stroke.server].half_close()


def _clients(fault: Fault) -> Callable[[Stage, Stroke], Awaitable[None]]:
    async def strike(stage: Stage, stroke: Stroke) -> None:
        proxy = stage.client_proxies[stroke.server]
        proxy.begin(fault)
        await asyncio.sleep(stroke.seconds)
        await proxy.heal()

    return strike


def _backend(name: str, fault: Fault) -> Callable[[Stage, Stroke], Awaitable[None]]:
    async def strike(stage: Stage, stroke: Stroke) -> None:
        proxy = stage.backend_proxies[name]
        proxy.begin(fault)
        await asyncio.sleep(stroke.seconds)
        await proxy.heal()

    return strike


def _cut_backend(name: str) -> Callable[[Stage, Stroke], Awaitable[None]]:
    async def strike(stage: Stage, stroke: Stroke) -> None:
        await stage.backend_proxies[name].cut()

    return strike


def _service(name: str, *, kill: bool) -> Callable[[Stage, Stroke], Awaitable[None]]:
    async def strike(stage: Stage, stroke: Stroke) -> None:
        service: Any = stage.redis if name == "redis" else stage.database.service
        if kill:
            await asyncio.to_thread(service.kill)
            await asyncio.sleep(stroke.seconds)
            await asyncio.to_thread(service.start)
        else:
            service.freeze()
            await asyncio.sleep(stroke.seconds)
            service.thaw()

    return strike


async def _terminate(stage: Stage, stroke: Stroke) -> None:
    await asyncio.to_thread(stage.database.terminate_connections)


async def _turn_clock(stage: Stage, stroke: Stroke) -> None:
    server = stage.servers[stroke.server]
    server.turn_clock(3600 if stroke.seconds > 4 else -3600)
    await asyncio.sleep(stroke.seconds)
    server.turn_clock(0)


async def _prune(stage: Stage, stroke: Stroke) -> None:
    await stage.logbook.read()
    await stage.prune()


async def _kill_writer(stage: Stage, stroke: Stroke) -> None:
    await asyncio.to_thread(stage.writer.kill)
    await asyncio.sleep(stroke.seconds)
    await asyncio.to_thread(stage.writer.start)


async def _back_up(stage: Stage, stroke: Stroke) -> None:
    await stage.back_up()


async def _restore(stage: Stage, stroke: Stroke) -> None:
    await stage.restore()


async def _restore_behind_frozen(stage: Stage, stroke: Stroke) -> None:
    await stage.restore_behind(stage.servers[stroke.server])


HANDS: dict[str, Callable[[Stage, Stroke], Awaitable[None]]] = {
    "kill server": _kill_server,
    "freeze server": _freeze_server,
    "roll servers": _roll,
    "cut clients": _cut_clients,
    "half-close clients": _half_close,
    "stall clients": _clients(Fault.STALL),
    "half-open clients": _clients(Fault.HALF_OPEN),
    "split clients": _clients(Fault.SPLIT),
    "throttle clients": _clients(Fault.THROTTLE),
    "turn clock": _turn_clock,
    "prune": _prune,
    "kill writer": _kill_writer,
    "kill redis": _service("redis", kill=True),
    "freeze redis": _service("redis", kill=False),
    "stall redis": _backend("redis", Fault.STALL),
    "cut redis": _cut_backend("redis"),
    "kill database": _service("database", kill=True),
    "freeze database": _service("database", kill=False),
    "stall database": _backend("database", Fault.STALL),
    "cut database": _cut_backend("database"),
    "half-open database": _backend("database", Fault.HALF_OPEN),
    "terminate connections": _terminate,
    "back up": _back_up,
    "restore backup": _restore,
    "restore behind a frozen server": _restore_behind_frozen,
}
