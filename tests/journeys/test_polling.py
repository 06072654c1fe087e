"""All bells dead: how long the poll alone takes to bring a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random
from statistics import median
from typing import Any

import pytest
from django.db import connection

from example_project.newsroom.models import Notice
from tests.live import end, sync
from wagtail_live.testing import LiveClient

pytestmark = [pytest.mark.measured, pytest.mark.usefixtures("committed")]

CHANGES = 30
POLL_SECONDS = 0.5


@pytest.fixture(autouse=True)
async def quiet() -> AsyncIterator[None]:
    yield
    await end()


async def test_with_all_bells_dead_every_change_arrives_by_the_poll(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings.WAGTAIL_LIVE_POLL_SECONDS = POLL_SECONDS
    monkeypatch.setattr("wagtail_live.bell.ring", lambda: None)
    random = Random(7)
    times = []
    async with LiveClient() as client:
        await client.subscribe("notices", "fields=text")
        for number in range(CHANGES):
            # At any moment between two polls.
            await asyncio.sleep(random.uniform(0, POLL_SECONDS))
            text = f"By the poll {number}"
            await sync(lambda text=text: Notice.objects.create(text=text))
            committed = time.monotonic()
            frame = await client.hear()
            times.append(time.monotonic() - committed)
            assert [row["text"] for row in frame["data"]] == [text]
    with capsys.disabled():
        print(
            f"\ncommit to delivery by polling every {POLL_SECONDS * 1000:.0f} ms alone "
            f"({connection.vendor}): median {median(times) * 1000:.0f} ms, "
            f"longest {max(times) * 1000:.0f} ms of {CHANGES} changes"
        )
