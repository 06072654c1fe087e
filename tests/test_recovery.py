"""What a cursor brings: the whole gap in order, or a reset with its reason. Nothing between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import override_settings
from wagtail.models import Site

from example_project.newsroom.models import Notice
from tests.live import end, settled, sync
from wagtail_live import head, history, numbering, retention
from wagtail_live.cursor import Sealer, fingerprint
from wagtail_live.events import Audience, Position, Query
from wagtail_live.exceptions import BadCursor
from wagtail_live.models import Head
from wagtail_live.representation import Representation
from wagtail_live.testing import Frame, LiveClient

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

NOTICES = Query("notices", (("fields", "text"),))
#: So few entries at a time that a gap has several pages.
PAGE = 2


@pytest.fixture(autouse=True)
async def quiet() -> AsyncIterator[None]:
    yield
    await end()


class Story:
    """A log of five notices, each with its position; ``start`` is what was before them."""

    def __init__(self) -> None:
        self.start = head.position()
        self.texts = ["one", "two", "three", "four", "five"]
        for text in self.texts:
            Notice.objects.create(text=text)
        while numbering.number():
            pass
        self.positions = [entry.position for entry in history.read(self.start.number)]
        assert len(self.positions) == 5


def prune_to(position: Position) -> None:
    """Prune all entries up to ``position``."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE wagtail_live_entry SET created_at = %s WHERE position <= %s",
            ["2000-01-01 00:00:00+00:00"[: None if connection.vendor == "postgresql" else 19],
             position.number],
        )  # fmt: skip
    retention.prune(older_than=timedelta(days=1))
    assert head.floor() == position


def seal(position: Position, query: Query = NOTICES, audience: Audience | None = None) -> str:
    site = Site.objects.filter(is_default_site=True).values_list("pk", flat=True).first()
    return Sealer([settings.SECRET_KEY]).seal(
        position, fingerprint(query, audience or Audience(site=site))
    )


async def ask(cursor: str) -> tuple[Frame, list[str]]:
    """Subscribe with ``cursor``; return the first answer and the texts that follow a resume."""
    async with LiveClient() as client:
        answer = await client.subscribe("notices", "fields=text", cursor=cursor)
        frames = await settled(client)
    return answer, [row["text"] for frame in frames for row in frame["data"]]


def empty(story: Story) -> Position:
    """A log in which nothing was ever written, for a site that has just begun."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM wagtail_live_entry")
        cursor.execute("DELETE FROM wagtail_live_head")
    return head.position()


def behind(story: Story) -> Position:
    return story.positions[1]


def before_all(story: Story) -> Position:
    return story.start


def at_the_end(story: Story) -> Position:
    return story.positions[-1]


def at_the_end_and_everything_pruned(story: Story) -> Position:
    prune_to(story.positions[-1])
    return story.positions[-1]


def at_the_floor(story: Story) -> Position:
    prune_to(story.positions[2])
    return story.positions[2]


def below_the_floor(story: Story) -> Position:
    prune_to(story.positions[2])
    return story.positions[1]


def beyond_the_end(story: Story) -> Position:
    last = story.positions[-1]
    return Position(last.number + 1, uuid4().hex)


def another_log_at_the_end(story: Story) -> Position:
    return Position(story.positions[-1].number, uuid4().hex)


def another_log_in_the_middle(story: Story) -> Position:
    return Position(story.positions[2].number, uuid4().hex)


def another_log_at_the_floor(story: Story) -> Position:
    prune_to(story.positions[2])
    return Position(story.positions[2].number, uuid4().hex)


@pytest.mark.parametrize(
    ("case", "reset", "texts"),
    [
        (empty, None, []),
        (before_all, None, ["one", "two", "three", "four", "five"]),
        (behind, None, ["three", "four", "five"]),
        (at_the_end, None, []),
        (at_the_end_and_everything_pruned, None, []),
        (at_the_floor, None, ["four", "five"]),
        (below_the_floor, "expired", []),
        (beyond_the_end, "unknown", []),
        (another_log_at_the_end, "unknown", []),
        (another_log_in_the_middle, "unknown", []),
        (another_log_at_the_floor, "unknown", []),
    ],
)
async def test_a_position_brings_the_whole_gap_or_a_reset(
    case: Callable[[Story], Position],
    reset: str | None,
    texts: list[str],
) -> None:
    cursor = await sync(lambda: seal(case(Story())))
    answer, told = await ask(cursor)
    if reset is None:
        assert answer["event"] == "resume"
    else:
        assert (answer["event"], answer["reset"]) == ("init", reset)
        assert len(answer["data"]) == 5
    assert sorted(told) == sorted(texts)


def tampered(cursor: str) -> str:
    return cursor[:40] + ("A" if cursor[40] != "A" else "B") + cursor[41:]


@pytest.mark.parametrize(
    ("cursor", "reset"),
    [
        (lambda at: tampered(seal(at)), "unknown"),
        (lambda at: seal(at)[:-1], "unknown"),
        (lambda at: seal(at, Query("notices", (("fields", "id"),))), "other_query"),
        (lambda at: seal(at, audience=Audience(authenticated=True)), "other_query"),
    ],
    ids=["tampered", "cut", "other query", "other audience"],
)
async def test_a_cursor_that_is_not_ones_own_is_a_reset(
    cursor: Callable[[Position], str], reset: str
) -> None:
    made = await sync(lambda: cursor(behind(Story())))
    answer, told = await ask(made)
    assert (answer["event"], answer["reset"], told) == ("init", reset, [])


async def test_a_key_that_was_rotated_out_is_a_reset() -> None:
    cursor = await sync(lambda: seal(behind(Story())))
    with override_settings(SECRET_KEY="another one", SECRET_KEY_FALLBACKS=[]):
        answer, told = await ask(cursor)
    assert (answer["event"], answer["reset"], told) == ("init", "unknown", [])


def test_what_is_pruned_between_reading_and_proof_is_a_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = Story()
    prune_to(story.positions[1])
    prove = history.prove

    def late(position: Position) -> None:
        prune_to(story.positions[3])
        prove(position)

    monkeypatch.setattr(history, "prove", late)
    with pytest.raises(BadCursor) as refused:
        history.since(story.positions[1])
    assert refused.value.reason == "expired"


async def test_what_is_pruned_between_two_pages_is_a_reset_or_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = await sync(Story)
    read = history.read
    pages = 0

    def slow(after: int, **kwargs: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 2:
            prune_to(story.positions[3])
        return read(after, **kwargs)

    def gap() -> list[Any]:
        position, entries = story.start, []
        while found := history.since(position, limit=PAGE):
            entries += found
            position = found[-1].position
        return entries

    monkeypatch.setattr(history, "read", slow)
    with pytest.raises(BadCursor) as refused:
        await sync(gap)
    assert refused.value.reason == "expired"


def restored(story: Story, backup: dict[str, Any], texts: list[str]) -> None:
    """Restore a backup, and let its log grow on: all at once for whoever looks from outside."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM wagtail_live_entry WHERE position > %s", [backup["position"]]
            )
        Head.objects.filter(pk=1).update(**backup)
        Notice.objects.filter(text__in=story.texts).delete()
        for text in texts:
            Notice.objects.create(text=text)
        numbering.number()


@pytest.mark.parametrize("grown", [0, 3, 10, 30], ids=lambda many: f"grown by {many}")
async def test_a_backup_restored_under_a_running_relay_gives_everybody_a_fresh_base(
    grown: int,
) -> None:
    backup = await sync(lambda: (head.position(), Head.objects.values().get())[1])
    texts = [f"new {number}" for number in range(grown)]
    async with LiveClient() as client:
        first = await client.subscribe("notices", "fields=text&limit=20")
        story = await sync(Story)
        told = await settled(client)
        assert len(told) >= 1
        await sync(lambda: restored(story, backup, texts))
        renewed = await client.hear()
        assert (renewed["event"], renewed["reset"]) == ("init", "renewed")
        frames = [renewed, *await settled(client)]
        shown = {row["text"] for frame in frames for row in frame["data"]}
        assert set(texts[:20]) <= shown
        assert not shown & set(story.texts)
        await sync(lambda: Notice.objects.create(text="it goes on"))
        [frame] = await settled(client)
        assert frame["data"][0]["text"] == "it goes on"
        again = await client.subscribe(
            "notices", "fields=text&limit=20", cursor=told[-1]["cursor"], uid="back"
        )
        assert (again["event"], again["reset"]) == ("init", "unknown")
        again = await client.subscribe(
            "notices", "fields=text&limit=20", cursor=first["cursor"], uid="older"
        )
        assert again["event"] == "resume"


@pytest.mark.parametrize("asked", ["answer", "snapshot"])
async def test_what_a_restored_backup_holds_is_first_shown_in_a_fresh_base(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup is put back after a change was read in the log, and before its content is."""
    backup = await sync(lambda: (head.position(), Head.objects.values().get())[1])
    real = getattr(Representation, asked)

    def late(self: Representation, *args: Any, **kwargs: Any) -> Any:
        if backup:
            restored(story, dict(backup), ["of the backup"])
            backup.clear()
        return real(self, *args, **kwargs)

    queries = {"there": "fields=text&limit=20", "joining": "fields=text&limit=19"}
    async with LiveClient() as client:
        await client.subscribe("notices", queries["there"], uid="there")
        story = await sync(Story)
        await settled(client)
        monkeypatch.setattr(Representation, asked, late)
        if asked == "answer":
            await sync(lambda: Notice.objects.create(text="the last of the old"))
        else:
            join = {"type": "subscribe", "collection": "notices", "query": queries["joining"]}
            client.say({**join, "uid": "joining"})
        frames: list[Frame] = []
        while not any(frame["uid"] == "there" for frame in frames):
            frames.append(await client.hear())
        assert (frames[-1]["event"], frames[-1]["reset"]) == ("init", "renewed")
        frames += await settled(client)
        for frame in frames:
            assert "of the backup" in {row["text"] for row in frame["data"]}
            query, cursor = queries[frame["uid"]], frame["cursor"]
            back = await client.subscribe("notices", query, uid="back", cursor=cursor)
            assert back["event"] == "resume", "its cursor was of the log that is gone"


async def test_a_new_epoch_gives_everybody_a_fresh_base_and_ends_every_cursor() -> None:
    async with LiveClient() as client:
        await sync(Story)
        old = (await client.subscribe("notices", "fields=text"))["cursor"]
        await sync(retention.new_epoch)
        renewed = await client.hear()
        assert (renewed["event"], renewed["reset"]) == ("init", "renewed")
        answer = await client.subscribe("notices", "fields=text", cursor=old, uid="old")
        assert answer["reset"] in {"expired", "unknown"}
        cursor = renewed["cursor"]
        answer = await client.subscribe("notices", "fields=text", cursor=cursor, uid="new")
        assert answer["event"] == "resume"
