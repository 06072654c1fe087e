"""
A session on an event stream (Server-Sent Events): plain ASGI, beside the WebSocket.

The frames are those of the socket, one event each; the event's id is the frame's cursor, so that a
browser's own ``EventSource`` resumes where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import msgspec
from django.core.handlers.asgi import ASGIRequest

from wagtail_live import goodbye, handshake, limits, protocol, relay, servers
from wagtail_live.conf import settings
from wagtail_live.counts import counts
from wagtail_live.exceptions import (
    STATUSES,
    Forbidden,
    InvalidCredentials,
    InvalidPayload,
    InvalidQuery,
    LiveError,
    TokenExpired,
    TooManyConnections,
)
from wagtail_live.outbox import Outbox
from wagtail_live.protocol import CloseCode
from wagtail_live.session import Session

logger = logging.getLogger("wagtail_live")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

METHODS = ("GET", "HEAD", "OPTIONS", "POST")
ALLOW = {"Allow": ", ".join(METHODS)}
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
#: After this long a GET begins its stream, whether its subscription has been answered or not.
ANSWER_SECONDS = 5.0
#: How long the body of a POST may take.
BODY_SECONDS = 10.0
#: How long the end of a stream may take to a client that does not read.
CLOSE_SECONDS = 1.0
#: A stream ends after so many times WAGTAIL_LIVE_MAX_BUFFER_BYTES, somewhere in between, lest all
#: end at once: what a server has taken from us and its client has not read stays bounded.
LIFE = (4.0, 8.0)
#: ...and after so many heartbeats: one whose client is gone without a word ends by nothing else.
LIFE_HEARTBEATS = (20, 40)
#: What a client waits after such an end, in milliseconds.
AGAIN_MS = 10
#: A refusal that will not be another one in a moment: a GET is answered with it, and no stream.
FINAL = {
    InvalidCredentials.code,
    TokenExpired.code,
    InvalidPayload.code,
    InvalidQuery.code,
    Forbidden.code,
    TooManyConnections.code,
}
PING = ": ping"


async def live_events(scope: Message, receive: Receive, send: Send) -> None:
    """The ASGI application that speaks the protocol as a stream; mount it at ``/live/events/``."""
    request = handshake.http_request(scope)
    if request is None:
        refused = Forbidden("Pages of this origin may not follow this site.")
        await _respond(send, refused.status, protocol.error(None, refused))
        return
    headers = handshake.cross_origin_headers(request)
    match request.method:
        case "GET" | "POST":
            most = settings.max_connections_per_address
            with limits.addresses.one(handshake.address(request), most) as free:
                if free:
                    # In HTTP/2 the connection is not this client's alone.
                    alone = scope.get("http_version") != "2"
                    single = request.method == "GET"
                    stream = _Stream(receive, send, headers, single=single, alone=alone)
                    await _follow(request, stream, receive, send, headers)
                else:
                    problem = TooManyConnections()
                    body = protocol.error(None, problem)
                    await _respond(send, problem.status, body, {**limits.AGAIN, **headers})
        case "HEAD":
            await _respond(send, 200, "", {**HEADERS, **headers})
        case "OPTIONS":
            preflight = handshake.preflight_headers(METHODS)
            await _respond(send, 204, "", {**ALLOW, **preflight, **headers})
        case _:
            body = protocol.error(None, InvalidPayload(f"Use one of {ALLOW['Allow']}."))
            await _respond(send, 405, body, {**ALLOW, **headers})


async def _follow(
    request: ASGIRequest, stream: _Stream, receive: Receive, send: Send, headers: Mapping[str, str]
) -> None:
    try:
        messages = await _messages(request, receive)
    except _Unreadable as refusal:
        await _respond(send, refusal.status, refusal.body, headers)
    except _Gone:
        return
    else:
        await stream.talk(request, messages)


class _Stream:
    """One response that goes on; ``single`` is one subscription, which may be refused by status."""

    def __init__(
        self,
        receive: Receive,
        send: Send,
        headers: Mapping[str, str],
        *,
        single: bool,
        alone: bool,
    ) -> None:
        self._receive = receive
        self._send = send
        self._send_paced = servers.paced(send)
        self._headers = headers
        self._single = single
        self._alone = alone
        self._begun = self._complete = False
        self._bytes_left = random.uniform(*LIFE) * settings.max_buffer_bytes  # noqa: S311 - a spread
        self._heartbeats_left = random.randint(*LIFE_HEARTBEATS)  # noqa: S311 - the same
        self._farewell = b""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def talk(self, request: ASGIRequest, messages: list[str]) -> None:
        outbox = Outbox(
            self._send_text,
            max_bytes=settings.max_buffer_bytes,
            overflow=lambda: self.hang_up(CloseCode.SLOW_CONSUMER),
        )
        session = Session(request, relay.current(), outbox, self.hang_up, answers=False)
        gone = asyncio.create_task(self._gone())
        try:
            if self._single:  # its answer may be a refusal, and then the stream never begins
                self._next_beat(outbox, ANSWER_SECONDS)
            else:
                self._beat(outbox)
            for message in messages:
                session.receive(message)
            with goodbye.told(partial(self.hang_up, CloseCode.SERVICE_RESTART), self._send):
                await asyncio.wait([gone, self._ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.close()
            self._heartbeat.cancel()
            gone.cancel()
        if self._ended.done():
            await self._finish()

    def hang_up(self, code: CloseCode) -> None:
        """End the stream; a client that does not read is left after a moment."""
        logger.info("a stream is ended: %d %s", code, code.name)
        counts.cut[code.name] += 1
        self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _beat(self, outbox: Outbox) -> None:
        if self._heartbeats_left == 0:
            self._end_for_now()
            return
        self._heartbeats_left -= 1
        outbox.write(PING)
        self._next_beat(outbox, settings.heartbeat_seconds)

    def _next_beat(self, outbox: Outbox, seconds: float) -> None:
        self._heartbeat = asyncio.get_running_loop().call_later(seconds, self._beat, outbox)

    async def _send_text(self, text: str) -> None:
        if self._ended.done():
            return
        event = _event(text)
        if not self._begun:
            if self._single and event.error in FINAL:
                self._begun = self._complete = True
                await _respond(self._send_paced, STATUSES[event.error], text, self._headers)
                self._end()
                return
            await self._begin()
        await self._send_paced(
            {"type": "http.response.body", "body": event.sent, "more_body": True}
        )
        self._bytes_left -= len(event.sent)
        if self._single and event.error is not None:
            self._end()
        elif self._bytes_left < 0:
            self._end_for_now()

    def _end_for_now(self) -> None:
        self._farewell = _retry(AGAIN_MS)
        self._end()

    async def _begin(self) -> None:
        self._begun = True
        await self._send_paced(_start(200, {**HEADERS, **self._headers}))
        within = 1000 * protocol.reconnect_seconds(relay.current().sessions)
        body = _retry(random.randint(0, within)) + f"{PING}\n\n".encode()  # noqa: S311 - a spread
        await self._send_paced({"type": "http.response.body", "body": body, "more_body": True})

    async def _finish(self) -> None:
        """End the response; a client that does not even take that loses its connection."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if not self._begun:
                    await self._begin()
                if not self._complete:
                    await self._send_paced({"type": "http.response.body", "body": self._farewell})
        except Exception as error:
            logger.debug("the end of a stream was not sent: %r", error)
            await self._drop()

    async def _drop(self) -> None:
        if self._alone:
            servers.abort(self._send)
            with contextlib.suppress(TimeoutError):  # a server hears of it in a moment
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._gone()


class _Gone(Exception):
    """The client has left before it had said what it wants."""


class _Unreadable(Exception):
    def __init__(self, kind: str | None, problem: LiveError, status: int | None = None) -> None:
        self.status = status or problem.status
        self.body = protocol.error(kind, problem)
        super().__init__(problem.message)


async def _messages(request: ASGIRequest, receive: Receive) -> list[str]:
    """Return the messages of ``request``: the one in a GET's address, or those in a POST's body."""
    limit = settings.max_message_bytes
    if request.method == "GET":
        address = request.META["QUERY_STRING"]
        if len(address) > limit:
            raise _Unreadable("subscribe", _too_large(limit), 413)
        try:
            found = protocol.parameters(address)
            if newest := request.headers.get("last-event-id"):
                found["cursor"] = newest
            return [protocol.subscribe_from(found)]
        except InvalidPayload as problem:
            raise _Unreadable("subscribe", problem) from None
    try:
        protocol.refuse_secrets(request.META["QUERY_STRING"])
    except InvalidPayload as problem:
        raise _Unreadable(None, problem) from None
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(receive, limit)
        messages = [bytes(one).decode() for one in _body_decoder.decode(body)]
    except TimeoutError:
        late = InvalidPayload(f"The body did not come within {BODY_SECONDS:.0f} seconds.")
        raise _Unreadable(None, late, 408) from None
    except (msgspec.DecodeError, RecursionError, ValueError):
        unread = InvalidPayload("The body could not be read. Send a JSON array of messages.")
        raise _Unreadable(None, unread) from None
    if len(messages) > 2 * settings.max_subscriptions:
        raise _Unreadable(None, InvalidPayload("These are too many messages for one request."))
    return messages


_body_decoder = msgspec.json.Decoder(list[msgspec.Raw])


async def _body(receive: Receive, limit: int) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body += message.get("body", b"")
        if len(body) > limit:
            raise _Unreadable(None, _too_large(limit), 413)
        more = message.get("more_body", False)
    return body


def _too_large(limit: int) -> InvalidPayload:
    return InvalidPayload(f"The request is longer than {limit} bytes.")


@dataclass(frozen=True, slots=True)
class _Event:
    """A frame as it is sent on every stream, or a comment."""

    sent: bytes
    error: str | None = None


@lru_cache(maxsize=16)  # as many as one change makes for one live query: its followers are in turn
def _event(text: str) -> _Event:
    if text == PING:
        return _Event(f"{text}\n\n".encode())
    said = protocol.inspect(text)
    named = "" if said.cursor is None else f"id: {said.cursor}\n"
    error = None if said.error is None else said.error.code
    return _Event(f"{named}data: {text}\n\n".encode(), error)


def _retry(milliseconds: int) -> bytes:
    return f"retry: {milliseconds}\n\n".encode()


def _start(status: int, headers: Mapping[str, str]) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()
        ],
    }


async def _respond(
    send: Send, status: int, text: str, headers: Mapping[str, str] | None = None
) -> None:
    body = text.encode()
    found = {"Vary": "Origin", "Cache-Control": "no-store", **(headers or {})}
    if body:
        found["Content-Type"] = "application/json"
        found["Content-Length"] = str(len(body))
    if status == InvalidCredentials.status:
        found["WWW-Authenticate"] = "Bearer"
    await send(_start(status, found))
    await send({"type": "http.response.body", "body": body})
