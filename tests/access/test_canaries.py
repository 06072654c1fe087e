"""
Whatever is done to the content, and whatever is asked for on any transport, nobody is told a word
that they could never read; and no log has any. `make canary` goes on for minutes.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from typing import Any

import pytest
from django.db.models import QuerySet

from tests.access import askers
from tests.access.askers import Asker
from tests.access.canaries import WORD, Aviary
from tests.access.transports import TRANSPORTS, Ask, get
from tests.live import caught_up, sync
from tests.streams import OWN, Stream
from wagtail_live.events import Audience
from wagtail_live.models import Entry
from wagtail_live.policy import Policy

pytestmark = pytest.mark.usefixtures("quiet_relay", "committed")

#: How long `make canary` wants it; without it some steps do.
CANARY_SECONDS = float(os.environ.get("CANARY_SECONDS", "0"))
STEPS = 30
#: So often everybody comes anew.
TERM = 15
FOLLOWED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pages", {"query": "fields=*&limit=100"}),
    ("pages", {"query": "type=newsroom.ArticlePage&fields=*&limit=100"}),
    ("images", {"query": "fields=*"}),
    ("documents", {"query": "fields=*"}),
    ("authors", {"query": "fields=*"}),
    ("notices", {}),
)
#: What is asked beside that: much of it is refused.
ODD = (
    "fields=*,owner(*),author(*,portrait(*)),image(*)",
    "fields=*,parent(*)",
    "type=newsroom.ArticlePage&fields=_,author(bio)",
    "order=-owner",
    "type=newsroom.ArticlePage&order=author",
    "locked_by=1",
    "live=false",
    "child_of=1",
    "descendant_of=999999",
    "translation_of=2&fields=*",
    "search=canary",
    "fields=latest_revision",
    "fields=view_restrictions(*)",
    "limit=0",
    "site=gazette.localhost",
    "site=nowhere",
)


class Leak(AssertionError):
    """Somebody has been told what they could never read."""


class Ear:
    """All that one asker is told, by all transports and by error."""

    def __init__(self, name: str, asker: Asker, aviary: Aviary) -> None:
        self.name = name
        self.asker = asker
        self.aviary = aviary
        self.cursors: list[tuple[str, dict[str, Any], str]] = []
        self.heard = 0

    def hear(self, what: str, said: Any) -> None:
        """Take what came; raise ``Leak`` when there is a word in it that was not for this one."""
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        self.heard += len(text)
        if leaks := self.aviary.leaks(self.name, text):
            raise Leak(f"{self.name} was told {leaks} by {what}: {text[:2000]}")

    async def probe(self, chance: Random) -> None:
        """Ask for something on some transport that one has no reason to ask for."""
        transport, ask = chance.choice([*TRANSPORTS.items()])
        collection, asked = chance.choice(
            [
                ("pages", {"query": chance.choice(ODD)}),
                ("pages", {"item": chance.randrange(1, 40)}),
                ("images", {"item": chance.randrange(1, 12)}),
                ("documents", {"item": chance.randrange(1, 12), "cursor": "forged"}),
                ("authors", {"query": "live=false"}),
                ("users", {}),
            ]
        )
        if self.cursors and chance.random() < 0.5:
            collection, asked, cursor = chance.choice(self.cursors)
            asked = {**asked, "cursor": cursor}
        async with ask(self.asker, collection, **asked) as following:
            self.hear(f"{transport} {collection} {asked}", following.first)
            self.hear(f"{transport} {collection} {asked}", await following.news())

    async def guess(self, chance: Random) -> None:
        """Ask for a page with a word that was overheard: there must seem to be none."""
        unknown = sorted(self.aviary.everything - self.aviary.may_know[self.name])
        if not unknown:
            return
        for name in ("title", "lead"):
            query = f"type=newsroom.ArticlePage&{name}={chance.choice(unknown)}"
            async with TRANSPORTS["socket"](self.asker, "pages", query=query) as following:
                if following.first.get("data"):
                    raise Leak(f"{self.name} can find out {query}: {following.first}")

    async def mistake(self, chance: Random) -> None:
        """Say what cannot be right, where errors are made up."""
        bad = chance.choice(("[", "{}", '[{"type":"auth","ticket":"x"}]', "[1]", "x" * 70_000))
        headers = [OWN, *self.asker.headers]
        async with Stream("", body=bad.encode(), headers=headers) as stream:
            stream.leave()
        self.hear("a stream", stream.raw.decode())
        parameters = {"collection": "pages", "wait": "soon", "query": "fields=owner(*)"}
        answer = await get("/live/changes/", parameters, self.asker)
        self.hear("changes", answer.content.decode())


class _Paper(logging.Handler):
    """
    Everything that is logged, at any level; of the database's own log only what is wrong, and
    nothing of what Wagtail says of an editor's work.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        of_sql = record.name.startswith("django.db") and record.levelno == logging.DEBUG
        if not of_sql and record.name.split(".")[0] != "wagtail":
            self.text.append(self.format(record))


@pytest.fixture
def paper() -> Iterator[_Paper]:
    made = _Paper()
    root = logging.getLogger()
    level = root.level
    root.addHandler(made)
    root.setLevel(logging.DEBUG)
    yield made
    root.removeHandler(made)
    root.setLevel(level)


async def follow(stack: AsyncExitStack, ear: Ear, chance: Random) -> list[tuple[str, Any]]:
    """Let ``ear`` follow everything, each on some transport; some come back with a cursor."""
    found = []
    for collection, asked in FOLLOWED:
        name: str
        ask: Ask
        name, ask = chance.choice([*TRANSPORTS.items()])
        old = [one for one in ear.cursors if one[:2] == (collection, asked)]
        cursor = {"cursor": chance.choice(old)[2]} if old and chance.random() < 0.7 else {}
        one = await stack.enter_async_context(ask(ear.asker, collection, **asked, **cursor))
        ear.hear(f"{name} {collection}", one.first)
        if sealed := one.first.get("cursor"):
            ear.cursors.append((collection, asked, sealed))
        found.append((f"{name} {collection}", one))
    return found


async def watch(seed: int, seconds: float, steps: int) -> Counter[str]:
    """Work at random while everybody listens; raise ``Leak``. Return what was done how often."""
    chance = Random(seed)
    aviary = await sync(lambda: Aviary(seed))
    people = {
        "public": askers.public,
        "member": partial(askers.signed_in, "member"),
        "editor": partial(askers.signed_in, "editor"),
        "admin": partial(askers.signed_in, "admin"),
    }
    if askers.has_tokens():
        people["member's token"] = partial(askers.with_token, "member")
    everybody = {name: await sync(make) for name, make in people.items()}
    await sync(lambda: aviary.note(everybody))
    ears = [Ear(name, asker, aviary) for name, asker in everybody.items()]
    done: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while steps > 0 or time.monotonic() < until:
        async with AsyncExitStack() as stack:
            followings = [(ear, await follow(stack, ear, chance)) for ear in ears]
            for _ in range(TERM):
                steps -= 1
                done[await sync(aviary.work)] += 1
                await sync(lambda: aviary.note(everybody))
                await caught_up()
                for ear, found in followings:
                    for what, one in found:
                        ear.hear(what, await one.news())
                ear = chance.choice(ears)
                await chance.choice((ear.probe, ear.guess, ear.mistake))(chance)
    done["characters heard"] = sum(ear.heard for ear in ears)
    await sync(lambda: _check_log_of_changes(aviary))
    return done


def _check_log_of_changes(aviary: Aviary) -> None:
    """The log says what changed, never what it said."""
    for entry in Entry.objects.all():
        if WORD.search(str(entry.was)):
            raise Leak(f"the log of changes holds {entry.was}")


async def test_nobody_is_told_what_they_may_not_read(paper: _Paper) -> None:
    seed = int(os.environ.get("SEED", "1"))
    done = await watch(seed, CANARY_SECONDS, STEPS)
    print(f"\ncanaries: {dict(done)}, {len(paper.text)} log lines")
    if found := [line for line in paper.text if WORD.search(line)]:
        raise Leak(f"a log holds {found[:3]}")


async def test_a_policy_that_hides_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_it(self: Policy, queryset: QuerySet[Any], audience: Audience) -> QuerySet[Any]:
        return queryset

    monkeypatch.setattr(Policy, "visible", all_of_it)
    with pytest.raises(Leak):
        await watch(1, 0, STEPS)
