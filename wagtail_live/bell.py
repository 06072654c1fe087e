"""
The doorbell: "the log grew". It carries nothing and may be lost; polling backs it up.

``ring`` may be called from any thread and never waits: listeners of this process are woken
directly, other processes through the channel layer by a thread of its own, so that a slow or dead
broker never holds up whoever publishes.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from channels.exceptions import InvalidChannelLayerError
from channels.layers import InMemoryChannelLayer, get_channel_layer

from wagtail_live.conf import settings

logger = logging.getLogger("wagtail_live")

GROUP = "wagtail_live.bell"
RETRY_SECONDS = 1.0
#: The list-based Redis layer forgets members of a group after a day.
REJOIN_SECONDS = 3600.0


class Listener:
    """Wakes one event loop. ``wait`` returns when the bell rang since it last returned."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def wake(self) -> None:
        # A loop that was closed without leaving has nobody to wake.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, seconds: float) -> bool:
        """Return True when the bell rang, False after ``seconds`` of silence."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        rung = self._rung.is_set()
        self._rung.clear()
        return rung


@dataclass(slots=True)
class _Heard:
    """What this process knows of the bell between processes. Times are ``time.monotonic``'s."""

    at: float = 0.0
    rung_at: float = float("inf")
    error: str = ""


_listeners: set[Listener] = set()
_heard = _Heard()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """Give a listener that hears this process and, through the channel layer, the others."""
    listener = Listener()
    _listeners.add(listener)
    remote = asyncio.create_task(_hear_others(listener))
    try:
        yield listener
    finally:
        _listeners.discard(listener)
        while not remote.done():
            # Once may not do: the list-based Redis layer can turn it into an error of its own.
            remote.cancel()
            await asyncio.wait([remote], timeout=0.1)


def ring() -> None:
    """Wake every process that listens."""
    for listener in list(_listeners):
        listener.wake()
    if _shared_layer() is not None:
        _ringer.ring()


def probe() -> tuple[Literal["off", "ok", "silent"], str]:
    """
    Ring so that nobody wakes, and return whether the last such ring came back, with what failed.

    A broker may take every message, raise nothing, and deliver none: only hearing proves the bell.
    """
    if _shared_layer() is None:
        return "off", ""
    silent = bool(_listeners) and _heard.at < _heard.rung_at < float("inf")
    _heard.rung_at = time.monotonic()
    _ringer.ring("probe")
    return ("silent", _heard.error) if silent else ("ok", "")


def _shared_layer() -> Any:
    """Return the channel layer that reaches other processes, or None."""
    try:
        layer = get_channel_layer(settings.channel_layer)
    except InvalidChannelLayerError:
        return None
    return None if isinstance(layer, InMemoryChannelLayer) else layer


async def _hear_others(listener: Listener) -> None:
    while (layer := _shared_layer()) is not None:
        try:
            channel = await layer.new_channel("wagtail_live")
            await layer.group_add(GROUP, channel)
            _ringer.ring("probe")  # what was rung before has not been heard
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REJOIN_SECONDS):
                    while True:
                        message = await layer.receive(channel)
                        _heard.at = time.monotonic()
                        _heard.error = ""
                        if message["type"] != "probe":
                            listener.wake()
            await layer.group_discard(GROUP, channel)
        except Exception as error:
            logger.warning("the bell is not heard, polling goes on: %s", error)
            _heard.error = str(error) or type(error).__name__
            await asyncio.sleep(RETRY_SECONDS)


class _Ringer:
    """One daemon thread that rings for other processes; many rings while it works become one."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._ring_wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ring(self, kind: Literal["ring", "probe"] = "ring") -> None:
        self._idle.clear()
        if kind == "ring":
            self._ring_wanted.set()
        self._wanted.set()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work, name="wagtail-live-bell", daemon=True
                )
                self._thread.start()
                atexit.register(self._idle.wait, RETRY_SECONDS)

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            while True:
                self._wanted.wait()
                self._wanted.clear()
                ring = self._ring_wanted.is_set()
                self._ring_wanted.clear()
                try:
                    runner.run(_ring_others("ring" if ring else "probe"))
                except Exception as error:
                    logger.warning("the bell was not rung, polling goes on: %s", error)
                    _heard.error = str(error) or type(error).__name__
                if not self._wanted.is_set():
                    self._idle.set()


async def _ring_others(kind: str) -> None:
    layer = _shared_layer()
    if layer is not None:
        async with asyncio.timeout(RETRY_SECONDS):
            await layer.group_send(GROUP, {"type": kind})


_ringer = _Ringer()
