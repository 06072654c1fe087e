"""
The process is asked to stop: everybody who is connected is told at once, on every server.

ASGI says nothing in time: a lifespan ends after the connections have, and Daphne has none. So the
signal is heard before the server's own handler, which then does its work. hypercorn's workers get
no signal; theirs is an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from wagtail_live import servers

logger = logging.getLogger("wagtail_live")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: A connection that the server still accepts so long after the signal is told as well.
LATECOMER_SECONDS = 5.0
#: A signal that nobody handled ends the process so long after the goodbye.
LAST_SECONDS = 1.0


class _Farewell:
    """Those on one event loop who want to be told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = loop.time
        self._hang_ups: set[Callable[[], None]] = set()
        self._over_at = float("-inf")
        self.listening: asyncio.Task[None] | None = None

    def add(self, hang_up: Callable[[], None]) -> None:
        self._hang_ups.add(hang_up)
        if self._clock() < self._over_at:
            asyncio.get_running_loop().call_soon(_call, hang_up)

    def discard(self, hang_up: Callable[[], None]) -> None:
        self._hang_ups.discard(hang_up)

    def say(self) -> None:
        logger.info("the process stops: %d connections are told", len(self._hang_ups))
        self._over_at = self._clock() + LATECOMER_SECONDS
        for hang_up in list(self._hang_ups):
            _call(hang_up)


_farewells: WeakKeyDictionary[asyncio.AbstractEventLoop, _Farewell] = WeakKeyDictionary()
#: What each signal did before we listened.
_before: dict[int, Any] = {}


@contextlib.contextmanager
def told(hang_up: Callable[[], None], send: servers.Send | None = None) -> Iterator[None]:
    """
    Within: when the process is asked to stop, ``hang_up`` is called on the loop that runs now.

    ``send`` is that of the ASGI connection, if there is one: some servers are heard through it.
    ``hang_up`` begins to end the connection and returns; it may be called more than once.
    """
    farewell = _farewell(send)
    farewell.add(hang_up)
    try:
        yield
    finally:
        farewell.discard(hang_up)


def _farewell(send: servers.Send | None) -> _Farewell:
    loop = asyncio.get_running_loop()
    farewell = _farewells.get(loop)
    if farewell is None:
        farewell = _farewells[loop] = _Farewell(loop)
        _listen()
    if farewell.listening is None and send is not None:
        stopping = servers.stopping(send)
        if stopping is not None:
            farewell.listening = asyncio.create_task(_say_after(stopping, farewell))
    return farewell


async def _say_after(stopping: Any, farewell: _Farewell) -> None:
    await stopping
    farewell.say()


def _call(hang_up: Callable[[], None]) -> None:
    try:
        hang_up()
    except Exception:
        logger.exception("a connection could not be told that the process stops")


def _listen() -> None:
    """Hear the signals, if this thread may; who ignores one, or handles it in C, stays alone."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        there = signal.getsignal(number)
        if there not in (_heard, None, signal.SIG_IGN):
            _before[number] = there
            signal.signal(number, _heard)


def _heard(number: int, frame: FrameType | None) -> None:
    before = _before[number]
    running = [loop for loop in list(_farewells) if loop.is_running()]
    for loop in running:
        loop.call_soon_threadsafe(_farewells[loop].say)
    if callable(before):
        before(number, frame)
        return
    # Nobody handles it: it ends the process, once the goodbye is on its way; the next one at once.
    signal.signal(number, signal.SIG_DFL)
    if running:
        running[0].call_soon_threadsafe(
            running[0].call_later, LAST_SECONDS, os.kill, os.getpid(), number
        )
    else:
        os.kill(os.getpid(), number)
