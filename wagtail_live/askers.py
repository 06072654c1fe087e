"""
Who is connected to this loop, by what they brought: looked up when they come, and anew when an
entry says that their rights may be others, or when it is time.

Until it is known again they are held: nothing of what came after the entry is told to them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat
from random import uniform
from typing import Protocol

from wagtail_live.conf import settings
from wagtail_live.events import Audience, Entry, Kind
from wagtail_live.exceptions import LiveError
from wagtail_live.feed import Feed
from wagtail_live.rights import EVERYBODY, RULE, SESSION

logger = logging.getLogger("wagtail_live")

#: How long it waits before it asks again who those are that are held; then always the last.
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
#: So many of them are looked up at once: those who are not concerned need the database too.
LOOK_UPS_AT_ONCE = 2
#: What is about to expire is looked up again no sooner than this.
SOON_SECONDS = 0.5

#: Returns the keys that the followers of a feed have been told of.
Told = Callable[[Feed], frozenset[Hashable]]


@dataclass(frozen=True, slots=True)
class Identity:
    """
    Who somebody is now.

    ``user`` is the id of who is signed in. ``rests_on``: what entries name when that may change, as
    (label, id); nothing for the public. ``seconds``: how long it lasts, if that is known.
    """

    audience: Audience
    user: str | None = None
    rests_on: frozenset[tuple[str, str]] = frozenset()
    seconds: float | None = None


class Member(Protocol):
    """What an asker wants of each of its connections. Those of one asker brought the same."""

    async def identify(self) -> Identity:
        """Look up who it is; raise ``LiveError`` when what it brought does not count."""

    def forget_session(self) -> None:
        """The session that it rests on does not count any more."""

    def hold(self, told: Told) -> None:
        """Tell it nothing until ``release``, ``move`` or ``revoke``."""

    def release(self) -> None:
        """Nothing has changed: go on."""

    def move(self, audience: Audience) -> None:
        """From now on it sees as ``audience``."""

    def revoke(self) -> None:
        """It is not any more who it was: close it."""


class Asker:
    """Those who brought the same, and who they are."""

    def __init__(self, key: Hashable, turns: asyncio.Semaphore) -> None:
        self.key = key
        self.members: set[Member] = set()
        self.identity: Identity | None = None
        self.held = False
        self._turns = turns
        self._doubts = 0
        self._looking: asyncio.Task[Identity] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = float("inf")

    async def known(self, *, anew: bool) -> Identity:
        """Return who it is, ``anew`` for who has just come; raise what ``Member.identify`` does."""
        if self.identity is None or self.held or anew:
            return await asyncio.shield(self._look())
        return self.identity

    def concerns(self, named: frozenset[tuple[str, str]]) -> bool:
        """Return whether entries that name these may be about it."""
        if self.identity is None:
            return self._looking is not None
        return not named.isdisjoint(self.identity.rests_on)

    def doubt(self, told: Told = Feed.told) -> None:
        """Hold its members until it is known who they are now."""
        self._doubts += 1
        self.held = True
        for member in self.members:
            member.hold(told)
        self._look()

    def end(self) -> None:
        """Nobody is left."""
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> asyncio.Task[Identity]:
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_up())
            self._looking.add_done_callback(self._looked)
        return self._looking

    async def _look_up(self) -> Identity:
        waits = chain(RETRY_SECONDS, repeat(RETRY_SECONDS[-1]))
        while True:
            doubts = self._doubts
            try:
                found = await self._identify()
            except LiveError:
                if doubts == self._doubts:
                    self._refused()
                    raise
            except Exception as error:
                if not self.held:
                    raise
                logger.warning("who somebody is could not be read, trying again: %s", error)
                await asyncio.sleep(next(waits))
            else:
                if doubts == self._doubts:
                    self._settle(found)
                    return found

    async def _identify(self) -> Identity:
        member = next(iter(self.members))
        if not self.held:
            return await member.identify()
        async with self._turns:
            return await member.identify()

    def _looked(self, task: asyncio.Task[Identity]) -> None:
        self._looking = None
        if task.cancelled():
            return
        if task.exception() is not None and self.identity is not None:
            logger.warning("who somebody is could not be read: %s", task.exception())
        self._look_again_later()

    def _settle(self, found: Identity) -> None:
        known, self.identity = self.identity, found
        was_held, self.held = self.held, False
        now = asyncio.get_running_loop().time()
        self._ends_at = float("inf") if found.seconds is None else now + found.seconds
        if known is not None and known.user not in {None, found.user}:
            self._tell(lambda member: member.revoke())
        elif known is not None and known.audience != found.audience:
            self._tell(lambda member: member.move(found.audience))
        elif was_held:
            self._tell(lambda member: member.release())

    def _refused(self) -> None:
        known, self.identity = self.identity, None
        self.held = False
        self._tell(lambda member: member.release() if known is None else member.revoke())

    def _tell(self, what: Callable[[Member], None]) -> None:
        for member in list(self.members):
            what(member)

    def _look_again_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.identity is None or not self.identity.rests_on:
            return
        loop = asyncio.get_running_loop()
        seconds = settings.recheck_seconds * uniform(0.5, 1.0)  # noqa: S311 - a spread
        lasts = max(SOON_SECONDS, self._ends_at - loop.time())
        if lasts <= seconds:
            self._timer = loop.call_later(lasts, self.doubt)
        else:
            self._timer = loop.call_later(seconds, self._look)


class Askers:
    """All who ask on one loop, by what they brought."""

    def __init__(self) -> None:
        self._askers: dict[Hashable, Asker] = {}
        self._turns = asyncio.Semaphore(LOOK_UPS_AT_ONCE)

    @property
    def identified(self) -> bool:
        """Whether somebody is there whose rights can change."""
        return any(one.identity and one.identity.rests_on for one in self._askers.values())

    @property
    def busy(self) -> bool:
        """Whether somebody is held."""
        return any(one.held for one in self._askers.values())

    def enter(self, member: Member, key: Hashable | None) -> Asker:
        """Count ``member`` in; ``key`` is what it brought, None when it is like nobody else."""
        key = object() if key is None else key
        asker = self._askers.get(key)
        if asker is None:
            asker = self._askers[key] = Asker(key, self._turns)
        asker.members.add(member)
        return asker

    def leave(self, member: Member, asker: Asker) -> None:
        """Let ``member`` go."""
        asker.members.discard(member)
        if not asker.members:
            asker.end()
            del self._askers[asker.key]

    def tell(self, entries: Iterable[Entry]) -> None:
        """Hold those whom ``entries`` may concern, and look up who they are now."""
        named = frozenset(map(_named, filter(_is_about_somebody, entries)))
        if not named:
            return
        told = cache(Feed.told)
        for asker in list(self._askers.values()):
            if asker.concerns(named):
                if any(label == SESSION for label, _ in _in_common(asker, named)):
                    self._end_session(asker)
                asker.doubt(told)

    def doubt_all(self) -> None:
        """What happened is not known: look up everybody whose rights can have changed."""
        told = cache(Feed.told)
        for asker in list(self._askers.values()):
            if asker.concerns(frozenset({EVERYBODY})):
                asker.doubt(told)

    def _end_session(self, asker: Asker) -> None:
        # Whoever keeps it may be about to delete it: what it says now proves nothing.
        for member in asker.members:
            member.forget_session()
        del self._askers[asker.key]
        asker.key = object()
        self._askers[asker.key] = asker


def _is_about_somebody(entry: Entry) -> bool:
    """Return whether ``entry`` changes who somebody is; a rule only changes what they see."""
    return entry.kind is Kind.RIGHTS and entry.model != RULE


def _named(entry: Entry) -> tuple[str, str]:
    return (entry.model, entry.object_id) if entry.object_id else EVERYBODY


def _in_common(asker: Asker, named: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    return asker.identity.rests_on & named if asker.identity else frozenset()
