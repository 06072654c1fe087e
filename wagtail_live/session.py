"""
One client from hello to goodbye, whatever the transport: it hands in texts and takes frames.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

from django.db import Error as DatabaseError
from django.http import HttpRequest
from msgspec import UNSET
from msgspec.structs import replace

from wagtail_live import database, identity, policies, protocol
from wagtail_live.conf import settings
from wagtail_live.events import Audience
from wagtail_live.exceptions import (
    InvalidPayload,
    LiveError,
    RateLimited,
    ServiceUnavailable,
    TooManySubscriptions,
)
from wagtail_live.feed import Feed
from wagtail_live.hub import Follower
from wagtail_live.identity import Credentials
from wagtail_live.limits import Pace, Verdict
from wagtail_live.outbox import Outbox
from wagtail_live.protocol import Auth, CloseCode, Ping, Pong, Subscribe, Unsubscribe
from wagtail_live.relay import Relay
from wagtail_live.representation import parse

logger = logging.getLogger("wagtail_live")

#: So many subscriptions of one client begin at once, and only when it has read what came before:
#: who asks for much is never cut for what it asked for.
JOINS_AT_ONCE = 2


@dataclass(slots=True, eq=False)
class _Subscription:
    message: Subscribe
    follower: Follower
    feed: Feed | None = None
    joining: asyncio.Task[None] | None = None


class Session:
    """
    The conversation with one client.

    ``outbox`` takes the frames; ``hang_up`` ends the transport with a close code. ``answers`` says
    whether the client can answer a ping: one that cannot is not pinged, nor held to be silent.
    """

    def __init__(
        self,
        request: HttpRequest,
        relay: Relay,
        outbox: Outbox,
        hang_up: Callable[[CloseCode], None],
        *,
        answers: bool = True,
    ) -> None:
        self._request = request
        self._relay = relay
        self._outbox = outbox
        self._hang_up = hang_up
        self._relay.sessions += 1
        self._credentials = identity.credentials(request)
        # One message to begin each subscription and one to end it are not too many at once.
        self._pace = Pace(
            burst=2 * settings.max_subscriptions,
            per_second=settings.messages_per_second,
            now=asyncio.get_running_loop().time(),
        )
        self._audience: asyncio.Task[Audience] | None = None
        self._subscriptions: dict[Hashable, _Subscription] = {}
        self._joining = asyncio.Semaphore(JOINS_AT_ONCE)
        self._heard = True
        self._heartbeat = self._next_heartbeat() if answers else None

    def receive(self, text: str | None) -> None:
        """Take one message from the client; ``None`` is one that was no text."""
        self._heard = True
        if text is not None and len(text.encode(errors="replace")) > settings.max_message_bytes:
            self._hang_up(CloseCode.TOO_LARGE)
            return
        verdict = self._pace.take(asyncio.get_running_loop().time())
        if verdict is Verdict.ENOUGH:
            self._hang_up(CloseCode.TOO_MANY)
            return
        try:
            if verdict is Verdict.TOO_OFTEN:
                raise RateLimited(
                    f"These are too many messages. Send {settings.messages_per_second:g} a second "
                    "at most, or the connection is closed."
                )
            if text is None:
                raise InvalidPayload
            self._answer(protocol.decode(text))
        except LiveError as problem:
            kind, uid = protocol.envelope(text or "")
            self._outbox.write(protocol.error(kind, problem, uid))

    def close(self) -> None:
        """The client has gone: let everything go. To be called once."""
        self._relay.sessions -= 1
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._outbox.close()
        for key in list(self._subscriptions):
            self._end(key)

    def _answer(self, message: protocol.Message) -> None:
        match message:
            case Auth(uid=uid):
                self._authenticate(identity.presented(message), None if uid is UNSET else str(uid))
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe(uid=uid):
                self._unsubscribe(None if uid is UNSET else str(uid))
            case Ping(uid=uid):
                self._outbox.write(protocol.pong(uid))
            case Pong():
                if self._outbox.answered():
                    self._pace.give_back()

    def _authenticate(self, brought: Credentials, uid: str | None) -> None:
        """From now on the client is who it says, or nobody may follow; cookies do not count."""
        self._credentials = brought
        self._audience = asyncio.create_task(self._admitted(brought, uid))
        self._audience.add_done_callback(_retrieved)
        for key, subscription in list(self._subscriptions.items()):
            self._end(key)
            joined = subscription.joining is None
            message = subscription.message
            self._subscribe(replace(message, cursor=UNSET) if joined else message)

    async def _admitted(self, brought: Credentials, uid: str | None) -> Audience:
        try:
            audience = await database.run(partial(self._identify, brought))
        except Exception as error:
            self._outbox.write(protocol.error("auth", _problem(error, "an auth"), uid))
            raise
        # Said here, before anybody who waits for this: it comes before all that it opens.
        self._outbox.write(protocol.authenticated(uid))
        return audience

    def _subscribe(self, message: Subscribe) -> None:
        uid = None if message.uid is UNSET else str(message.uid)
        key: Hashable = object() if uid is None else uid
        self._end(key)
        if len(self._subscriptions) >= settings.max_subscriptions:
            raise TooManySubscriptions
        follower = Follower(
            outbox=self._outbox,
            uid=uid,
            event=None if message.event is UNSET else message.event,
            ended=lambda: self._end(key),
            reconnect_seconds=protocol.reconnect_seconds(self._relay.sessions),
        )
        subscription = self._subscriptions[key] = _Subscription(message, follower)
        subscription.joining = asyncio.create_task(self._join(key, subscription, message))

    async def _join(self, key: Hashable, subscription: _Subscription, message: Subscribe) -> None:
        try:
            item = None if message.item is UNSET else message.item
            query = parse(message.collection, message.query, item)
            cursor = None if message.cursor is UNSET else message.cursor
            async with self._joining:
                await self._outbox.room()
                audience = await self._identified()
                subscription.feed = await self._relay.follow(
                    query, audience, subscription.follower, cursor
                )
        except Exception as error:
            self._refuse(key, subscription, _problem(error, f"a subscription: {message!r}"))
        finally:
            subscription.joining = None

    def _refuse(self, key: Hashable, subscription: _Subscription, problem: LiveError) -> None:
        self._subscriptions.pop(key, None)
        self._outbox.write(protocol.error("subscribe", problem, subscription.follower.uid))

    def _unsubscribe(self, uid: str | None) -> None:
        for key in list(self._subscriptions) if uid is None else [uid]:
            self._end(key)
        self._outbox.write(protocol.subscription("unsubscribe", uid=uid))

    def _end(self, key: Hashable) -> None:
        subscription = self._subscriptions.pop(key, None)
        if subscription is None:
            return
        if subscription.joining is not None:
            subscription.joining.cancel()
        if subscription.feed is not None:
            self._relay.leave(subscription.feed, subscription.follower)

    async def _identified(self) -> Audience:
        known = self._audience
        if known is None or (known.done() and (known.cancelled() or known.exception())):
            known = self._audience = self._relay.shared(
                identity.anonymity(self._request, self._credentials),
                partial(database.run, partial(self._identify, self._credentials)),
            )
        return await asyncio.shield(known)

    def _identify(self, brought: Credentials) -> Audience:
        return policies.audience(identity.identify(self._request, brought))

    def _next_heartbeat(self) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(settings.heartbeat_seconds, self._beat)

    def _beat(self) -> None:
        if not self._heard:
            self._hang_up(CloseCode.SILENT)
            return
        self._heard = False
        self._outbox.ping()
        self._heartbeat = self._next_heartbeat()


def _problem(error: Exception, what: str) -> LiveError:
    """Return what the client is told of ``error``, and log what is not its own doing."""
    if isinstance(error, LiveError):
        return error
    if isinstance(error, DatabaseError):
        logger.warning("the database is not there for %s: %s", what, error)
        return ServiceUnavailable()
    logger.error("failed: %s", what, exc_info=error)
    return LiveError()


def _retrieved(task: asyncio.Task[Audience]) -> None:
    """The client was told; that nobody waits for it is no news for the log."""
    if not task.cancelled():
        task.exception()
