from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live import end
from wagtail_live import goodbye
from wagtail_live.testing import Closed, LiveClient

Heard = list[int]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What a server's own handler of SIGTERM hears."""
    numbers: Heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def told() -> list[str]:
    return []


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_everybody_is_told_and_the_servers_own_handler_runs(
    heard: Heard, told: list[str]
) -> None:
    with goodbye.told(lambda: told.append("a")), goodbye.told(lambda: told.append("b")):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: len(told) == 2)
        assert heard == []  # what they have to say may still be on its way
    assert sorted(told) == ["a", "b"]
    await until(lambda: heard == [signal.SIGTERM])


async def test_who_does_not_leave_does_not_keep_the_server_from_stopping(heard: Heard) -> None:
    with goodbye.told(lambda: None):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: heard == [signal.SIGTERM])


async def test_a_server_that_is_asked_twice_hears_it_at_once(heard: Heard, told: list[str]) -> None:
    with goodbye.told(lambda: told.append("a")):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: told)
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]


async def test_where_nobody_is_connected_the_server_need_not_wait(heard: Heard) -> None:
    with goodbye.told(lambda: None):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(3):
        await asyncio.sleep(0)
    assert heard == [signal.SIGTERM]


async def test_who_has_left_is_not_told(heard: Heard, told: list[str]) -> None:
    with goodbye.told(lambda: told.append("left")):
        pass
    with goodbye.told(lambda: told.append("there")):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: told)
    assert told == ["there"]


async def test_who_comes_while_the_server_stops_is_told_too(heard: Heard, told: list[str]) -> None:
    with goodbye.told(lambda: told.append("first")):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: told)
    with goodbye.told(lambda: told.append("late")):
        assert told == ["first"]
        await until(lambda: len(told) == 2)
    assert told == ["first", "late"]


async def test_one_that_fails_to_hang_up_keeps_nobody_else_from_it(
    heard: Heard, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        told.append("failed")
        raise RuntimeError("no")

    with goodbye.told(fail), goodbye.told(lambda: told.append("a")), goodbye.told(fail):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: len(told) == 2)
    assert sorted(told) == ["a", "failed"]
    assert "could not be told" in caplog.text


async def test_the_event_loops_own_handler_runs_as_well(told: list[str]) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: told.append("server"))
    try:
        with goodbye.told(lambda: told.append("client")):
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: len(told) == 2)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
    assert sorted(told) == ["client", "server"]


async def test_without_a_main_thread_there_is_nothing_to_hear() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def connected() -> None:
        with goodbye.told(lambda: None):
            pass

    await asyncio.to_thread(asyncio.run, connected())
    assert signal.getsignal(signal.SIGTERM) is before


ALONE = """
import asyncio, os, signal
from wagtail_live import goodbye

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

async def main():
    told = asyncio.Event()
    with goodbye.told(told.set):
        os.kill(os.getpid(), signal.{first})
        await told.wait()
        print("told", flush=True)
        {then}
        await asyncio.sleep(60)

asyncio.run(main())
"""


def ended(first: str, then: str = "") -> subprocess.CompletedProcess[str]:
    """Run a process that says goodbye when it gets a signal, and has no handler for it."""
    return subprocess.run(
        [sys.executable, "-c", ALONE.format(first=first, then=then)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_signal_that_nobody_handles_ends_the_process_after_the_goodbye() -> None:
    process = ended("SIGTERM")
    assert (process.stdout, process.returncode) == ("told\n", -signal.SIGTERM), process.stderr


def test_the_second_such_signal_ends_it_at_once() -> None:
    process = ended("SIGTERM", "os.kill(os.getpid(), signal.SIGTERM); print('still here')")
    assert (process.stdout, process.returncode) == ("told\n", -signal.SIGTERM), process.stderr


def test_an_interrupt_still_interrupts() -> None:
    assert "KeyboardInterrupt" in ended("SIGINT").stderr


@pytest.mark.usefixtures("committed")
class TestConnections:
    async def test_a_socket_is_closed_with_1012(self, heard: Heard) -> None:
        async with LiveClient() as client:
            client.say({"type": "ping"})
            await client.hear()
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(Closed) as closed:
                await client.hear()
        assert closed.value.code == 1012
        await end()

    async def test_a_server_that_ends_the_task_of_a_connection_says_goodbye_by_it(self) -> None:
        client = await LiveClient().__aenter__()
        assert client._application is not None
        client._application.cancel()
        with pytest.raises(Closed) as closed:
            await client.hear()
        assert closed.value.code == 1012
        with pytest.raises(asyncio.CancelledError):
            await client.__aexit__()
        await end()
