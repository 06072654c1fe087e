"""In-process following, for the tests that have content of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from wagtail_live import database, head, numbering, relay
from wagtail_live.testing import Frame, LiveClient


def sync(function: Callable[[], Any]) -> Any:
    """Run ORM code from a coroutine."""
    return sync_to_async(function, thread_sensitive=True)()


async def caught_up() -> None:
    """Return when this process has sent the frames of everything committed until now."""
    newest = await database.run(_newest)
    current = relay.current()
    async with asyncio.timeout(20):
        while current.hub.position.number < newest or current.busy:
            await asyncio.sleep(0.005)


async def settled(client: LiveClient) -> list[Frame]:
    """Return the frames of everything committed until now."""
    await caught_up()
    return await client.unheard()


async def end() -> None:
    """End the relay's task and every thread's connections."""
    await relay.current().close()
    await database.disconnect()
    await sync(connections.close_all)


def _newest() -> int:
    while numbering.number():
        pass
    return head.position().number
