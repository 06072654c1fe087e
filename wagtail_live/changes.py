"""
A session as a page of changes (REST): for static builds, cron and other servers.

The same frames as on the socket: what happened since a cursor, or what happens next within a time.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from rest_framework.views import APIView

from wagtail_live import goodbye, handshake, limits, protocol
from wagtail_live.conf import settings
from wagtail_live.exceptions import (
    STATUSES,
    Forbidden,
    InvalidCredentials,
    InvalidPayload,
    LiveError,
    ServiceUnavailable,
    TooManyConnections,
)
from wagtail_live.openapi import Described, operation
from wagtail_live.outbox import Outbox
from wagtail_live.relay import Relay, current
from wagtail_live.session import Session

METHODS = ("GET", "HEAD", "OPTIONS")
#: The longest ``wait``, in seconds.
WAIT_SECONDS = 60.0
#: The answer may take so long, in seconds, before it waits for a change: a query may hang.
ANSWER_SECONDS = 30.0
#: So many requests may wait at once in a process; one more is answered at once.
WAITING_LIMIT = 100
#: What is said as ``Retry-After``, in seconds: to who could not wait, and when it did not work.
AGAIN_SECONDS = 5


class Changes(APIView):
    """
    ``GET``: the frames since a cursor, and the cursor for the next time.

    Who asks is known as on the socket; the site's authenticators, permissions and throttles for its
    other REST views say nothing here.
    """

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    schema = Described(operation(longest_wait=WAIT_SECONDS))

    async def dispatch(  # type: ignore[override]  # APIView's own cannot wait
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Answer ``request``."""
        asker = copy.copy(request)  # the site's own keeps its user and its cookies
        if not handshake.is_welcome(asker):
            return _refusal(None, Forbidden("Pages of this origin may not follow this site."))
        if request.method not in METHODS:
            problem = InvalidPayload(f"Use one of {', '.join(METHODS)}.")
            answer = _refusal(None, problem, 405)
            answer["Allow"] = ", ".join(METHODS)
        elif request.method == "OPTIONS":
            answer = HttpResponse(status=204, headers=handshake.preflight_headers(METHODS))
            answer["Allow"] = ", ".join(METHODS)
        else:
            answer = await self.get(asker)
        for name, value in handshake.cross_origin_headers(request).items():
            answer[name] = value
        if "origin" in request.headers:
            answer["Access-Control-Expose-Headers"] = "Retry-After"
        return answer

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Return the page of changes that ``request`` asks for."""
        # Under WSGI the site's workers are the bound.
        where = handshake.address(request) if isinstance(request, ASGIRequest) else None
        try:
            message, wait = _read(request.META["QUERY_STRING"])
            with limits.addresses.one(where, settings.max_connections_per_address) as free:
                if not free:
                    raise TooManyConnections
                async with _place(request, wait) as (relay, seconds):
                    frames = await _Page(request, relay).read(message, seconds)
        except LiveError as problem:
            return _refusal("subscribe", problem)
        return _page(frames, waited=seconds == wait)


class _Page:
    """A session that ends with its first news."""

    def __init__(self, request: HttpRequest, relay: Relay) -> None:
        self._frames: list[str] = []
        self._something = asyncio.Event()
        self._ended = False
        self._relay = relay
        outbox = Outbox(self._keep, max_bytes=settings.max_buffer_bytes, overflow=self._end)
        self._session = Session(request, relay, outbox, lambda code: self._end(), answers=False)

    async def read(self, message: str, seconds: float) -> list[str]:
        """Return the frames that answer ``message``, waiting for the first change if need be."""
        try:
            await self._begin(message)
            if seconds and not self._ended and not _has_news(self._frames):
                self._something.clear()
                with suppress(TimeoutError), goodbye.told(self._end):
                    async with asyncio.timeout(seconds):
                        await self._something.wait()
        finally:
            self._session.close()
        if not self._frames:
            raise ServiceUnavailable
        return self._frames

    async def _begin(self, message: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                # Nothing more may come, so what is committed must be in: a socket would hear it
                # later.
                await self._relay.caught_up()
                self._session.receive(message)
                await self._something.wait()
        except TimeoutError:
            raise ServiceUnavailable(
                f"The content could not be read within {ANSWER_SECONDS:.0f} seconds. "
                "Ask again in a few seconds."
            ) from None

    def _end(self) -> None:
        self._ended = True
        self._something.set()

    async def _keep(self, frame: str) -> None:
        self._frames.append(frame)
        self._something.set()


_waiting = 0


@asynccontextmanager
async def _place(request: HttpRequest, wait: float) -> AsyncIterator[tuple[Relay, float]]:
    """
    Give the relay to ask and how long to wait.

    Under WSGI a request has a loop of its own for as long as it lasts, and occupies one of few
    workers: it gets a relay for itself, and does not wait.
    """
    global _waiting
    if not isinstance(request, ASGIRequest):
        passing = Relay()
        try:
            yield passing, 0.0
        finally:
            await passing.close()
    elif not wait or _waiting >= WAITING_LIMIT:
        yield current(), 0.0
    else:
        _waiting += 1
        try:
            yield current(), wait
        finally:
            _waiting -= 1


def _read(address: str) -> tuple[str, float]:
    """Return the ``subscribe`` message in ``address``, and how long to wait."""
    if len(address) > settings.max_message_bytes:
        raise InvalidPayload("The address is too long.")
    found = protocol.parameters(address)
    asked = found.pop("wait", "0")
    try:
        wait = float(asked)
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= WAIT_SECONDS:
        raise InvalidPayload(f'"wait" must be a number of seconds from 0 to {WAIT_SECONDS:.0f}.')
    return protocol.subscribe_from(found), wait


def _has_news(frames: list[str]) -> bool:
    return any(protocol.inspect(frame).is_news for frame in frames)


def _page(frames: list[str], *, waited: bool) -> HttpResponse:
    cursor = None
    for frame in frames:
        said = protocol.inspect(frame)
        if said.error is not None:
            return _json(frame, STATUSES[said.error.code])
        cursor = said.cursor or cursor
    answer = _json(f'{{"frames":[{",".join(frames)}],"cursor":{protocol.dumps(cursor)}}}', 200)
    if not waited and not _has_news(frames):
        answer["Retry-After"] = str(AGAIN_SECONDS)
    return answer


def _refusal(kind: str | None, problem: LiveError, status: int | None = None) -> HttpResponse:
    return _json(protocol.error(kind, problem), status or problem.status)


def _json(text: str, status: int) -> HttpResponse:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status == ServiceUnavailable.status:
        headers["Retry-After"] = str(AGAIN_SECONDS)
    if status == TooManyConnections.status:
        headers |= limits.AGAIN
    if status == InvalidCredentials.status:
        headers["WWW-Authenticate"] = "Bearer"
    return HttpResponse(text, content_type="application/json", status=status, headers=headers)
