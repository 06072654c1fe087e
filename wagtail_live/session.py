"""
One client from hello to goodbye, whatever the transport: it hands in texts and takes frames.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from django.db import Error as DatabaseError
from django.http import HttpRequest
from django.utils import timezone
from msgspec import UNSET

from wagtail_live import database, identity, limits, policies, protocol
from wagtail_live.askers import Asker, Identity, Told
from wagtail_live.conf import settings
from wagtail_live.events import Audience
from wagtail_live.exceptions import (
    InvalidCredentials,
    InvalidPayload,
    LiveError,
    RateLimited,
    ServiceUnavailable,
    TooManyConnections,
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
from wagtail_live.rights import rests_on

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
        #: As whose connection it counts, and the place that it takes.
        self._user: str | None = None
        self._place = ExitStack()
        self._session_ended = False
        self._asker: Asker | None = None
        #: The one of which it has been asked who this is.
        self._known: Asker | None = None
        #: What it said in ``auth`` messages that have not been answered.
        self._brought: deque[tuple[Credentials, str | None]] = deque()
        self._admitting: asyncio.Task[None] | None = None
        #: What the client was told of until it was held, by subscription.
        self._held: dict[_Subscription, frozenset[Hashable]] | None = None
        self._subscriptions: dict[Hashable, _Subscription] = {}
        self._joining = asyncio.Semaphore(JOINS_AT_ONCE)
        self._heard = True
        self._heartbeat = self._next_heartbeat() if answers else None
        self._demand: asyncio.Task[None] | None = None
        if settings.require_auth:
            self._demand = asyncio.create_task(self._demand_identity())

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
            self._outbox.answer(protocol.error(kind, problem, uid))

    def close(self) -> None:
        """The client has gone: let everything go. To be called once."""
        self._relay.sessions -= 1
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._outbox.close()
        if self._admitting is not None:
            self._admitting.cancel()
        for key in list(self._subscriptions):
            self._end(key)
        self._leave_asker()
        self._place.close()
        if self._demand is not None:
            self._demand.cancel()

    async def identify(self) -> Identity:
        """Look up who the client is now; raise ``LiveError`` if what it brought does not count."""
        return await database.run(partial(self._identify, self._credentials))

    def forget_session(self) -> None:
        """The session that it rests on has ended."""
        self._request.COOKIES = {}
        self._session_ended = True

    def hold(self, told: Told) -> None:
        """Send no news, and note what the client knows until now."""
        if self._held is None:
            self._held = self._told(told)
            self._outbox.hold()

    def release(self) -> None:
        """It is who it was: what was held goes out."""
        self._held = None
        self._outbox.release(news=True)

    def move(self, audience: Audience) -> None:
        """
        It sees as ``audience`` now: drop what was held and give each subscription a fresh base.

        What it was told of before, and may not see any more, is taken back first.
        """
        self._stop_all()
        for key, subscription in self._subscriptions.items():
            self._begin(key, subscription)

    def revoke(self) -> None:
        """It is not any more who it was."""
        for key in list(self._subscriptions):
            self._end(key)
        self._outbox.close()
        self._hang_up(CloseCode.REVOKED)

    def _told(self, told: Told) -> dict[_Subscription, frozenset[Hashable]]:
        """Return what the client was told of, by subscription that has had its base."""
        return {
            subscription: told(subscription.feed)
            for subscription in self._subscriptions.values()
            if subscription.feed is not None
        }

    def _identify(self, brought: Credentials) -> Identity:
        if brought and self._session_ended:  # the one that asked for its ticket
            raise InvalidCredentials
        asker = identity.identify(self._request, brought)
        audience = policies.audience(asker)
        ends_at = identity.ends_at(asker)
        return Identity(
            audience,
            user=str(asker.user.pk) if audience.authenticated else None,
            rests_on=rests_on(asker, audience),
            seconds=None if ends_at is None else (ends_at - timezone.now()).total_seconds(),
        )

    def _answer(self, message: protocol.Message) -> None:
        match message:
            case Auth(uid=uid):
                self._authenticate(identity.presented(message), None if uid is UNSET else str(uid))
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe(uid=uid):
                self._unsubscribe(None if uid is UNSET else str(uid))
            case Ping(uid=uid):
                self._outbox.answer(protocol.pong(uid))
            case Pong():
                if self._outbox.answered():
                    self._pace.give_back()

    def _authenticate(self, brought: Credentials, uid: str | None) -> None:
        """From now on the client is who it says, or nobody may follow; cookies do not count."""
        self.hold(Feed.told)
        self._brought.append((brought, uid))
        if self._admitting is None:
            self._admitting = asyncio.create_task(self._admit_all())

    async def _admit_all(self) -> None:
        while self._brought:
            await self._admit(*self._brought.popleft())
        self._admitting = None

    async def _admit(self, brought: Credentials, uid: str | None) -> None:
        self.hold(Feed.told)
        self._leave_asker()
        self._credentials = brought
        self._session_ended = False
        for subscription in self._subscriptions.values():
            if subscription.joining is not None:
                self._stop(subscription)
        try:
            audience = await self._identified()
        except Exception as error:
            problem = _problem(error, "an auth")
            self._stop_all()
            self._outbox.answer(protocol.error("auth", problem, uid))
            # Another one that waits to be read may open them.
            for key, subscription in [] if self._brought else list(self._subscriptions.items()):
                self._refuse(key, subscription, problem)
        else:
            self._outbox.answer(protocol.authenticated(uid))
            self.move(audience)

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
        self._begin(key, subscription)

    def _begin(self, key: Hashable, subscription: _Subscription) -> None:
        subscription.joining = asyncio.create_task(self._join(key, subscription))

    async def _join(self, key: Hashable, subscription: _Subscription) -> None:
        message, follower = subscription.message, subscription.follower
        try:
            item = None if message.item is UNSET else message.item
            query = parse(message.collection, message.query, item)
            cursor = None if message.cursor is UNSET or follower.had is not None else message.cursor
            async with self._joining:
                await self._outbox.room()
                audience = await self._identified()
                subscription.feed = await self._relay.follow(query, audience, follower, cursor)
        except Exception as error:
            self._refuse(key, subscription, _problem(error, f"a subscription: {message!r}"))
        finally:
            if subscription.joining is asyncio.current_task():
                subscription.joining = None

    def _refuse(self, key: Hashable, subscription: _Subscription, problem: LiveError) -> None:
        self._subscriptions.pop(key, None)
        follower = subscription.follower
        kind = "subscribe"
        if follower.had is not None:
            kind = "subscription"  # it was answered long ago
            follower.take_back(follower.had)
        self._outbox.answer(protocol.error(kind, problem, follower.uid))

    def _unsubscribe(self, uid: str | None) -> None:
        for key in list(self._subscriptions) if uid is None else [uid]:
            self._end(key)
        self._outbox.answer(protocol.subscription("unsubscribe", uid=uid))

    def _end(self, key: Hashable) -> None:
        subscription = self._subscriptions.pop(key, None)
        if subscription is not None:
            self._stop(subscription)

    def _stop(self, subscription: _Subscription) -> None:
        if subscription.joining is not None:
            subscription.joining.cancel()
            subscription.joining = None
        if subscription.feed is not None:
            self._relay.leave(subscription.feed, subscription.follower)
            subscription.feed = None

    def _stop_all(self) -> None:
        """Stop all, drop the news that was held, and note what the client was told of before."""
        held, self._held = self._held, None
        told = self._told(Feed.told) if held is None else held
        for subscription in self._subscriptions.values():
            self._stop(subscription)
            if (had := told.get(subscription)) is not None:
                subscription.follower = dataclasses.replace(subscription.follower, had=had)
        self._outbox.release(news=False)

    async def _identified(self) -> Audience:
        while self._admitting not in {None, asyncio.current_task()}:
            await asyncio.wait([self._admitting])
        # From here on it is told of what changes: before it is asked who this is.
        await self._relay.running()
        if self._asker is None:
            key = identity.key(self._request, self._credentials)
            self._asker = self._relay.askers.enter(self, key)
        asker = self._asker
        found = await asker.known(anew=asker is not self._known)
        self._known = asker
        if found.user is None and settings.require_auth:
            raise InvalidCredentials(
                "Only who says who it is may follow this site. Sign in, or send an auth message."
            )
        self._count_as(found.user)
        return found.audience

    async def _demand_identity(self) -> None:
        """End the connection of who has not said who it is in time."""
        await asyncio.sleep(settings.auth_seconds)
        try:
            await self._identified()
        except LiveError:
            self._hang_up(CloseCode.REVOKED)
        except DatabaseError as error:
            logger.warning("who somebody is could not be read: %s", error)

    def _count_as(self, user: str | None) -> None:
        """Be one of the connections of ``user``, or say that it has enough and end."""
        if user == self._user:
            return
        self._place.close()
        self._user = None
        if not self._place.enter_context(limits.users.one(user, settings.max_connections_per_user)):
            # When the client has been told why.
            asyncio.get_running_loop().call_soon(self._hang_up, CloseCode.TOO_MANY)
            raise TooManyConnections
        self._user = user

    def _leave_asker(self) -> None:
        if self._asker is not None:
            self._relay.askers.leave(self, self._asker)
            self._asker = None

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
