"""The past: what is read back joins on to what is there, and is bounded."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import OperationalError

from example_project.newsroom.models import Notice
from tests.live import settled, sync
from wagtail_live import head, past, relay, tail
from wagtail_live.events import Position
from wagtail_live.past import Past
from wagtail_live.source import Source
from wagtail_live.testing import LiveClient

pytestmark = pytest.mark.usefixtures("committed", "quiet_relay")


def write(texts: str) -> Position:
    """Write a notice for each letter; return the position after them."""
    for text in texts:
        Notice.objects.create(text=text)
    return head.position()


async def test_those_who_come_together_have_it_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    oldest = await sync(head.position)
    newest = await sync(lambda: write("abc"))
    until, read = Source.until, []

    def counted(self: Source, position: Position, *, limit: int) -> Any:
        read.append(position)
        return until(self, position, limit=limit)

    monkeypatch.setattr(Source, "until", counted)
    whole = Past(Source(), newest)
    await asyncio.gather(whole.reach(oldest), whole.reach(oldest), whole.reach(newest))
    assert read == [newest]
    assert whole.tail.reaches(oldest)
    assert len(whole.tail.gap(oldest).entries) == 3


async def test_who_comes_after_a_failure_has_it_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    oldest = await sync(head.position)
    whole = Past(Source(), await sync(lambda: write("a")))

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone away")

    with monkeypatch.context() as patched:
        patched.setattr(Source, "until", fail)
        with pytest.raises(OperationalError):
            await whole.reach(oldest)
    await whole.reach(oldest)
    assert whole.tail.reaches(oldest)


async def test_what_is_read_back_joins_on_or_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "ENTRIES_LIMIT", 2)
    await sync(lambda: [Notice.objects.create(text=text) for text in "ab"])
    current = relay.current()
    until = Source.until
    reading, go_on = threading.Event(), threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Any:
        found = until(*args, **kwargs)
        reading.set()
        assert go_on.wait(10)
        return found

    monkeypatch.setattr(Source, "until", slow)
    async with LiveClient() as client:
        await client.subscribe("notices", "fields=text")
        oldest = await sync(head.floor)
        reached = asyncio.create_task(current.reach(oldest))
        assert await asyncio.to_thread(reading.wait, 10)
        await sync(lambda: [Notice.objects.create(text=text) for text in "cdef"])
        await settled(client)
        go_on.set()
        kept = await reached
        numbers = [entry.position.number for entry in kept.gap(kept.base).entries]
        assert numbers == list(range(kept.base.number + 1, kept.last.number + 1))


async def test_a_very_long_gap_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "GAP_LIMIT", 2)
    monkeypatch.setattr(tail, "ENTRIES_LIMIT", 1)
    async with LiveClient() as client:
        cursor = (await client.subscribe("notices", "fields=text"))["cursor"]
        await sync(lambda: [Notice.objects.create(text=text) for text in "abc"])
        await settled(client)
        answer = await client.subscribe("notices", "fields=text", cursor=cursor, uid="back")
        assert (answer["event"], answer["reset"]) == ("init", "too_many")
