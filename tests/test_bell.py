from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from channels.layers import channel_layers
from django.test import override_settings

from tests.requires import lacking
from wagtail_live import bell

REDIS = "redis://127.0.0.1:6379/9"
NOBODY = "redis://127.0.0.1:1/9"
LAYERS = {
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "list": "channels_redis.core.RedisChannelLayer",
}


@contextlib.contextmanager
def channel_layer(backend: str, host: str = REDIS) -> Iterator[dict[str, Any]]:
    """Settings with a channel layer whose keys are its own."""
    config = {"hosts": [host], "prefix": f"test-{uuid4().hex}"}
    layers = {"default": {"BACKEND": backend, "CONFIG": config}}
    with override_settings(CHANNEL_LAYERS=layers):
        channel_layers.backends = {}
        yield layers
    channel_layers.backends = {}


@pytest.fixture
def nothing_shared() -> Iterator[None]:
    with override_settings(CHANNEL_LAYERS={}):
        channel_layers.backends = {}
        yield
    channel_layers.backends = {}


@pytest.fixture(params=LAYERS)
def shared(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    try:
        redis.Redis.from_url(REDIS).ping()
    except redis.ConnectionError:
        lacking("Redis on 127.0.0.1:6379")
    with channel_layer(LAYERS[request.param]) as layers:
        yield layers


@pytest.fixture
async def listener() -> AsyncIterator[bell.Listener]:
    async with bell.listening() as listener:
        yield listener


async def heard(listener: bell.Listener, ring: Callable[[], object]) -> bool:
    """Return whether a ring comes through, given that joining the others takes a moment."""
    for _ in range(100):
        await asyncio.to_thread(ring)
        if await listener.wait(0.1):
            return True
    return False


def in_another_process(layers: dict[str, Any]) -> Callable[[], object]:
    code = (
        "from django.conf import settings\n"
        f"settings.configure(CHANNEL_LAYERS={layers!r})\n"
        "from wagtail_live import bell\n"
        "bell.ring()\n"
    )
    return lambda: subprocess.run([sys.executable, "-c", code], check=True)


# In one process


@pytest.mark.usefixtures("nothing_shared")
class TestOneProcess:
    async def test_silence_is_false_after_the_time_it_was_given(
        self, listener: bell.Listener
    ) -> None:
        assert not await listener.wait(0.01)

    async def test_a_ring_wakes_who_waits(self, listener: bell.Listener) -> None:
        waiting = asyncio.create_task(listener.wait(10))
        await asyncio.sleep(0)
        bell.ring()
        assert await waiting

    async def test_a_ring_before_the_wait_is_not_lost(self, listener: bell.Listener) -> None:
        bell.ring()
        assert await listener.wait(10)

    async def test_many_rings_are_one(self, listener: bell.Listener) -> None:
        for _ in range(5):
            bell.ring()
        assert await listener.wait(10)
        assert not await listener.wait(0.01)

    async def test_everybody_who_listens_is_woken(self) -> None:
        async with bell.listening() as one, bell.listening() as other:
            bell.ring()
            assert await one.wait(10)
            assert await other.wait(10)

    async def test_any_thread_may_ring(self, listener: bell.Listener) -> None:
        thread = threading.Thread(target=bell.ring)
        thread.start()
        assert await listener.wait(10)
        thread.join()

    async def test_who_has_left_is_forgotten(self) -> None:
        async with bell.listening():
            pass
        assert not bell._listeners

    async def test_leaving_ends_what_listens(self) -> None:
        before = asyncio.all_tasks()
        async with bell.listening():
            pass
        assert asyncio.all_tasks() == before

    async def test_a_loop_that_closed_without_leaving_is_no_error(self) -> None:
        async def listen() -> bell.Listener:
            return bell.Listener()

        lost = await asyncio.to_thread(asyncio.run, listen())
        bell._listeners.add(lost)
        try:
            bell.ring()
        finally:
            bell._listeners.discard(lost)

    def test_ringing_needs_no_loop_and_no_listener(self) -> None:
        bell.ring()

    async def test_without_a_shared_layer_no_thread_is_made(self) -> None:
        threads = {thread.name for thread in threading.enumerate()} - {"wagtail-live-bell"}
        bell.ring()
        assert {thread.name for thread in threading.enumerate()} - {"wagtail-live-bell"} == threads


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
        {"default": {"BACKEND": "nowhere.Layer"}},
    ],
)
def test_a_layer_that_reaches_nobody_else_is_not_used(layers: dict[str, Any]) -> None:
    with override_settings(CHANNEL_LAYERS=layers):
        channel_layers.backends = {}
        try:
            assert bell._shared_layer() is None
        finally:
            channel_layers.backends = {}


# Between processes


async def test_another_process_hears_the_bell(
    shared: dict[str, Any], listener: bell.Listener
) -> None:
    assert await heard(listener, in_another_process(shared))


async def test_a_ring_on_the_layer_carries_nothing(
    shared: dict[str, Any], listener: bell.Listener
) -> None:
    layer = bell._shared_layer()
    channel = await layer.new_channel("test")
    await layer.group_add(bell.GROUP, channel)
    bell.ring()
    async with asyncio.timeout(10):
        while (message := await layer.receive(channel)) == {"type": "probe"}:
            pass
    assert message == {"type": "ring"}
    await layer.group_discard(bell.GROUP, channel)


async def test_the_group_is_joined_again_from_time_to_time(
    shared: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell, "REJOIN_SECONDS", 0.05)
    async with bell.listening() as listener:
        ring = in_another_process(shared)
        for _ in range(2):
            assert await heard(listener, ring)
            await asyncio.sleep(0.1)


async def test_a_dead_broker_delays_no_ring_and_wakes_this_process(
    listener: bell.Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "wagtail_live")
    with channel_layer(LAYERS["pubsub"], NOBODY):
        async with asyncio.timeout(1):
            bell.ring()
            assert await listener.wait(1)
        assert await asyncio.to_thread(bell._ringer._idle.wait, 10)


async def test_a_dead_broker_is_told_in_the_log_by_who_rings_and_who_listens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def said(words: str) -> bool:
        return any(words in record.getMessage() for record in caplog.records)

    with channel_layer(LAYERS["pubsub"], NOBODY):
        async with bell.listening() as listener:
            bell.ring()
            assert await listener.wait(1)
            async with asyncio.timeout(10):
                while not (said("was not rung") and said("is not heard")):
                    await asyncio.sleep(0.01)


async def test_who_listens_hears_again_when_the_broker_is_back(
    shared: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "wagtail_live")
    monkeypatch.setattr(bell, "RETRY_SECONDS", 0.05)
    layer = bell._shared_layer()
    joins = 0
    join = layer.new_channel

    async def failing_at_first(prefix: str) -> str:
        nonlocal joins
        joins += 1
        if joins < 3:
            raise ConnectionError("the broker is away")
        return str(await join(prefix))

    monkeypatch.setattr(layer, "new_channel", failing_at_first)
    async with bell.listening() as listener:
        assert await heard(listener, in_another_process(shared))
    assert joins == 3


async def probed(wanted: str) -> str:
    """Return what was wrong when a probe found ``wanted``."""
    async with asyncio.timeout(20):
        while True:
            state, error = bell.probe()
            if state == wanted:
                return error
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("nothing_shared")
def test_a_probe_finds_no_bell_where_nothing_is_shared() -> None:
    assert bell.probe() == ("off", "")


async def test_a_probe_comes_back_and_wakes_nobody(
    shared: dict[str, Any], listener: bell.Listener
) -> None:
    heard_at = bell._heard.at
    async with asyncio.timeout(20):
        while bell._heard.at == heard_at:
            await asyncio.sleep(0.01)
    assert bell.probe() == ("ok", "")
    assert not await listener.wait(0.05)


async def test_a_probe_finds_a_broker_that_is_dead(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "wagtail_live")
    monkeypatch.setattr(bell, "_heard", bell._Heard())
    with channel_layer(LAYERS["pubsub"], NOBODY):
        async with bell.listening():
            async with asyncio.timeout(20):
                while not bell._heard.error:
                    await asyncio.sleep(0.01)
            assert "127.0.0.1:1" in await probed("silent")


async def test_a_probe_finds_a_broker_that_takes_everything_and_delivers_nothing(
    shared: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def swallow(group: str, message: object) -> None:
        """Take it."""

    monkeypatch.setattr(bell, "_heard", bell._Heard())
    monkeypatch.setattr(bell._shared_layer(), "group_send", swallow)
    async with bell.listening():
        assert await probed("silent") == ""
        monkeypatch.undo()
