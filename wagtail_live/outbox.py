"""
One socket's outgoing side: writing never waits, and what waits is bounded.

The coroutine of ASGI's ``send`` is stepped by hand: on a socket that keeps up it ends at once and
costs no task. One that would block is handed to a task, and what follows it is kept up to a bound;
beyond it the client is given up as too slow (it resumes from its cursor when it returns).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any

logger = logging.getLogger("wagtail_live")

Send = Callable[[str], Coroutine[Any, Any, None]]


class Outbox:
    """
    Writes frames to one client in order.

    ``send``: sends one text frame. ``max_bytes``: how much may wait while the client does not
    read. ``overflow``: called once, when more would wait.
    """

    __slots__ = (
        "_closed",
        "_max_bytes",
        "_overflow",
        "_send",
        "_task",
        "_waiting",
        "_waiting_bytes",
    )

    def __init__(self, send: Send, *, max_bytes: int, overflow: Callable[[], None]) -> None:
        self._send = send
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._waiting: deque[str] = deque()
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def write(self, frame: str) -> None:
        """Send ``frame`` now, or keep it until the client reads again."""
        if self._closed:
            return
        if self._task is not None:
            self._keep(frame)
            return
        step = self._send(frame)
        try:
            blocked_on = step.send(None)
        except StopIteration:
            return
        except Exception as error:  # the client is gone: its receiving side learns it
            logger.debug("a frame was not sent: %r", error)
            self._closed = True
            return
        self._task = asyncio.ensure_future(self._drain(_resume(step, blocked_on)))

    def close(self) -> None:
        """Forget what waits. Nothing is sent any more."""
        self._closed = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def flush(self) -> None:
        """Wait until everything that was written has been sent."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _keep(self, frame: str) -> None:
        self._waiting_bytes += len(frame.encode())
        if self._waiting_bytes > self._max_bytes:
            self.close()
            self._overflow()
            return
        self._waiting.append(frame)

    async def _drain(self, blocked: Awaitable[None]) -> None:
        try:
            await blocked
            while self._waiting:
                frame = self._waiting.popleft()
                self._waiting_bytes -= len(frame.encode())
                await self._send(frame)
        except Exception as error:
            logger.debug("a frame was not sent: %r", error)
            self._closed = True
        finally:
            self._task = None


@coroutine
def _resume(step: Coroutine[Any, Any, None], blocked_on: Any) -> Generator[Any, Any, None]:
    """Await the rest of a coroutine whose first step was taken by hand."""
    forward: Callable[[Any], Any]
    while True:
        try:
            value = yield blocked_on
        except BaseException as error:  # cancellation too belongs to the coroutine that waits
            forward, argument = step.throw, error
        else:
            forward, argument = step.send, value
        try:
            blocked_on = forward(argument)
        except StopIteration:
            return
