"""
One client's outgoing side: writing never waits, and what waits is bounded.

The coroutine of ASGI's ``send`` is stepped by hand: on a socket that keeps up it ends at once and
costs no task. One that would block is handed to a task, and what follows it is kept up to a bound;
beyond it the client is given up as too slow (it resumes from its cursor when it returns).

That a server took a frame does not say that anybody reads: some take all of them, and what stands
before them may. So a client that can answer is asked with a ``ping`` among the frames, and is given
no more than the bound beyond what it has answered to. It may lie: a ``pong`` names no ``ping``.
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
#: So many unanswered pings are remembered; of a client that never answers the oldest are forgotten.
PINGS = 64


class Outbox:
    """
    Writes frames to one client in order.

    ``send``: sends one text frame. ``max_bytes``: how much may be sent without an answer to a
    ping, and how much may be kept while the client does not read; in each place one frame may go
    beyond it. ``overflow``: called once, when more would be kept. ``ping``: the frame that asks for
    an answer, None for a client that cannot answer.
    """

    __slots__ = (
        "_closed",
        "_held",
        "_held_bytes",
        "_kept",
        "_kept_bytes",
        "_marks",
        "_max_bytes",
        "_overflow",
        "_ping",
        "_room",
        "_send",
        "_since_ping",
        "_task",
        "_unanswered",
    )

    def __init__(
        self, send: Send, *, max_bytes: int, overflow: Callable[[], None], ping: str | None = None
    ) -> None:
        self._send = send
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._ping = ping
        self._kept: deque[str] = deque()
        self._kept_bytes = 0
        #: How much was sent between one ping and the next, for those that were not answered.
        self._marks: deque[int] = deque()
        self._since_ping = 0
        self._unanswered = 0
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        #: What was written since ``hold``, and whether it is news.
        self._held: list[tuple[str, bool]] | None = None
        self._held_bytes = 0

    def write(self, frame: str) -> None:
        """Send ``frame``, news of a subscription, or keep it until the client reads again."""
        if self._held is None:
            self._pass(frame)
        else:
            self._hold_back(frame, is_news=True)

    def answer(self, frame: str) -> None:
        """Send ``frame``, which is no news but an answer, in its order among the others."""
        if self._held is None:
            self._pass(frame)
        else:
            self._hold_back(frame, is_news=False)

    def hold(self) -> None:
        """Send nothing but pings until ``release``: what is written is kept, up to the bound."""
        if self._held is None and not self._closed:
            self._held = []

    def release(self, *, news: bool) -> None:
        """Send what was held, the ``news`` or only the rest."""
        held, self._held, self._held_bytes = self._held or [], None, 0
        for frame, is_news in held:
            if news or not is_news:
                self._pass(frame)

    def ping(self) -> None:
        """Ask for an answer, unless one is awaited that must come before anything else is sent."""
        if self._ping is not None and not self._closed and not self._kept:
            self._pass(self._ping)

    def answered(self) -> bool:
        """
        The client has answered a ping: what was sent before it has arrived.

        Return whether there was one to answer.
        """
        asked = bool(self._marks)
        if asked:
            self._unanswered -= self._marks.popleft()
        if self._task is None and not self._closed and (frame := self._next()) is not None:
            self._start(frame)
        self._make_room()
        return asked

    async def room(self) -> None:
        """Wait until nothing is kept and a frame would be sent at once, or the outbox is closed."""
        while not self._closed and not self._has_room:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def close(self) -> None:
        """Forget what is kept. Nothing is sent any more."""
        self._closed = True
        self._kept.clear()
        self._held = None
        if self._task is not None:
            self._task.cancel()
        self._make_room()

    async def flush(self) -> None:
        """Wait until everything has been sent that may be sent before the next answer."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _pass(self, frame: str) -> None:
        if self._closed:
            return
        if self._task is None and not self._kept and self._may_send:
            self._start(frame)
        else:
            self._keep(frame)

    def _hold_back(self, frame: str, *, is_news: bool) -> None:
        if self._held is None or self._closed:
            return
        if self._held_bytes > self._max_bytes:
            self.close()
            self._overflow()
            return
        self._held_bytes += _bytes(frame)
        self._held.append((frame, is_news))

    @property
    def _may_send(self) -> bool:
        return self._unanswered < self._max_bytes or self._ping is None

    @property
    def _has_room(self) -> bool:
        return self._task is None and not self._kept and self._may_send

    def _make_room(self) -> None:
        if self._room is not None and (self._closed or self._has_room):
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    def _start(self, first: str) -> None:
        """Send ``first`` and what follows it, without a task for as long as nothing blocks."""
        frame: str | None = first
        while frame is not None:
            self._count(frame)
            step = self._send(frame)
            try:
                blocked_on = step.send(None)
            except StopIteration:
                frame = self._next()
            except Exception as error:  # the client is gone: its receiving side learns it
                logger.debug("a frame was not sent: %r", error)
                self.close()
                return
            else:
                self._task = asyncio.ensure_future(self._drain(_resume(step, blocked_on)))
                return

    def _next(self) -> str | None:
        if self._ping is not None and 2 * self._since_ping >= self._max_bytes:
            return self._ping
        if self._kept and self._may_send:
            frame = self._kept.popleft()
            self._kept_bytes -= _bytes(frame)
            return frame
        return None

    def _count(self, frame: str) -> None:
        if self._ping is None:
            return
        if frame == self._ping:
            self._marks.append(self._since_ping)
            self._since_ping = 0
            if len(self._marks) > PINGS:
                forgotten = self._marks.popleft()
                self._marks[0] += forgotten
        else:
            size = _bytes(frame)
            self._since_ping += size
            self._unanswered += size

    def _keep(self, frame: str) -> None:
        if self._kept_bytes > self._max_bytes:
            self.close()
            self._overflow()
            return
        self._kept_bytes += _bytes(frame)
        self._kept.append(frame)

    async def _drain(self, blocked: Awaitable[None]) -> None:
        try:
            await blocked
            while (frame := self._next()) is not None:
                self._count(frame)
                await self._send(frame)
        except Exception as error:
            logger.debug("a frame was not sent: %r", error)
            self._closed = True
            self._kept.clear()
        finally:
            self._task = None
            self._make_room()


def _bytes(frame: str) -> int:
    return len(frame) if frame.isascii() else len(frame.encode())


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
