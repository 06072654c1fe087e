"""
The process is asked to stop: everybody who is connected is told at once, on every server.

ASGI says nothing in time: a lifespan ends after the connections have, and Daphne has none. So the
signal is heard before the server's own handler, which does its work as soon as those who were told
have left. hypercorn's workers get no signal; theirs is an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from wagtail_live import servers

logger = logging.getLogger("wagtail_live")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: So long at most the server's own handler waits for those who were told; Daphne's would cut them.
LEAVE_SECONDS = 1.0
#: ...and so long for what they have left to write.
WRITE_SECONDS = 0.1
#: Who is still let in so long after the signal is told as well.
LATECOMER_SECONDS = 5.0


class _Farewell:
    """Those on one event loop who want to be told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = loop.time
        self._hang_ups: set[Callable[[], None]] = set()
        self._all_left = asyncio.Event()
        self._over_at = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self.hears_server = False
        #: Signals that the server's own handler does not know of yet.
        self.pending: set[int] = set()

    def add(self, hang_up: Callable[[], None]) -> None:
        self._hang_ups.add(hang_up)
        if self._clock() < self._over_at:
            asyncio.get_running_loop().call_soon(_call, hang_up)

    def discard(self, hang_up: Callable[[], None]) -> None:
        self._hang_ups.discard(hang_up)
        if not self._hang_ups:
            self._all_left.set()

    def say(self, then: Callable[[], None] = lambda: None) -> None:
        """Tell everybody; call ``then`` when they have left, or stay for too long."""
        self._keep(self._part(then))

    def say_when(self, stopping: Awaitable[Any]) -> None:
        """Tell everybody when ``stopping`` is over."""

        async def wait() -> None:
            await stopping
            self.say()

        self.hears_server = True
        self._keep(wait())

    async def _part(self, then: Callable[[], None]) -> None:
        logger.info("the process stops: %d connections are told", len(self._hang_ups))
        self._over_at = self._clock() + LATECOMER_SECONDS
        if self._hang_ups:
            self._all_left.clear()
            for hang_up in list(self._hang_ups):
                _call(hang_up)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._all_left.wait()
            await asyncio.sleep(WRITE_SECONDS)
        then()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


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
    if send is not None and not farewell.hears_server:
        stopping = servers.stopping(send)
        if stopping is not None:
            farewell.say_when(stopping)
    return farewell


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
    here: asyncio.AbstractEventLoop | None
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    for loop, farewell in list(_farewells.items()):
        if loop is not here and loop.is_running():
            loop.call_soon_threadsafe(farewell.say)
    waiting = None if here is None else _farewells.get(here)
    if here is None or waiting is None or number in waiting.pending:
        # Nobody to wait for, or asked once more.
        if waiting is not None:
            waiting.pending.discard(number)
        _pass_on(number, frame)
    else:
        waiting.pending.add(number)
        here.call_soon_threadsafe(waiting.say, partial(_pass_on_from, waiting, number, frame))


def _pass_on_from(farewell: _Farewell, number: int, frame: FrameType | None) -> None:
    if number in farewell.pending:
        farewell.pending.discard(number)
        _pass_on(number, frame)


def _pass_on(number: int, frame: FrameType | None) -> None:
    before = _before[number]
    if callable(before):
        before(number, frame)
    else:  # nobody handles it: it ends the process
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
