from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wagtail_live.outbox import Outbox

BOUND = 100


class Socket:
    """A client's socket as a server offers it: ``send`` blocks while the client does not read."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.pauses = 0
        self.error: Exception | None = None

    async def send(self, frame: str) -> None:
        for _ in range(self.pauses):
            await asyncio.sleep(0)
        await self.reads.wait()
        if self.error is not None:
            raise self.error
        self.arrived.append(frame)


@pytest.fixture
async def socket() -> Socket:
    return Socket()


@pytest.fixture
def overflows() -> list[str]:
    return []


@pytest.fixture
async def outbox(socket: Socket, overflows: list[str]) -> Outbox:
    return Outbox(socket.send, max_bytes=BOUND, overflow=lambda: overflows.append("overflow"))


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop its turns until ``condition`` holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_frame_to_a_client_that_reads_is_sent_at_once_and_costs_no_task(
    socket: Socket, outbox: Outbox
) -> None:
    tasks = asyncio.all_tasks()
    outbox.write("1")
    outbox.write("2")
    assert socket.arrived == ["1", "2"]
    assert asyncio.all_tasks() == tasks


async def test_writing_to_a_client_that_does_not_read_returns_at_once(
    socket: Socket, outbox: Outbox
) -> None:
    socket.reads.clear()
    outbox.write("1")
    outbox.write("2")
    assert socket.arrived == []
    socket.reads.set()
    await outbox.flush()
    assert socket.arrived == ["1", "2"]


@pytest.mark.parametrize("pauses", [1, 2, 5])
async def test_a_send_that_waits_several_times_is_taken_to_its_end(
    socket: Socket, outbox: Outbox, pauses: int
) -> None:
    socket.pauses = pauses
    outbox.write("1")
    outbox.write("2")
    await outbox.flush()
    assert socket.arrived == ["1", "2"]


async def test_the_order_is_kept_however_often_the_client_stops_reading(
    socket: Socket, outbox: Outbox
) -> None:
    written = []
    for number in range(60):
        if number % 7 == 0:
            socket.reads.clear()
        if number % 5 == 0:
            socket.reads.set()
            socket.pauses = number % 3
        if number % 11 == 0:
            await asyncio.sleep(0)
        written.append(str(number))
        outbox.write(written[-1])
        if number % 10 == 9:
            socket.reads.set()
            await outbox.flush()
    assert socket.arrived == written


async def test_after_a_pause_frames_are_sent_at_once_again(socket: Socket, outbox: Outbox) -> None:
    socket.reads.clear()
    outbox.write("1")
    socket.reads.set()
    await outbox.flush()
    outbox.write("2")
    assert socket.arrived == ["1", "2"]


async def test_a_stuck_reader_never_delays_another() -> None:
    stuck, quick = Socket(), Socket()
    stuck.reads.clear()
    outboxes = [
        Outbox(one.send, max_bytes=BOUND, overflow=lambda: None) for one in (stuck, quick, stuck)
    ]
    for frame in ("1", "2", "3"):
        for outbox in outboxes:
            outbox.write(frame)
    assert quick.arrived == ["1", "2", "3"]
    assert stuck.arrived == []
    for outbox in outboxes:
        outbox.close()


async def test_as_much_as_the_bound_may_wait(
    socket: Socket, outbox: Outbox, overflows: list[str]
) -> None:
    socket.reads.clear()
    outbox.write("first")  # on its way: it does not wait
    outbox.write("x" * (BOUND - 1))
    outbox.write("y")
    assert overflows == []
    socket.reads.set()
    await outbox.flush()
    assert socket.arrived == ["first", "x" * (BOUND - 1), "y"]


async def test_more_than_the_bound_gives_the_client_up_and_says_so_once(
    socket: Socket, outbox: Outbox, overflows: list[str]
) -> None:
    socket.reads.clear()
    outbox.write("first")
    outbox.write("x" * BOUND)
    for _ in range(5):
        outbox.write("y")
    assert overflows == ["overflow"]
    socket.reads.set()
    await outbox.flush()
    outbox.write("z")
    assert socket.arrived == []


async def test_the_bound_is_in_bytes_not_in_characters(
    socket: Socket, outbox: Outbox, overflows: list[str]
) -> None:
    socket.reads.clear()
    outbox.write("first")
    outbox.write("é" * (BOUND // 2))
    assert overflows == []
    outbox.write("x")
    assert overflows == ["overflow"]


async def test_what_was_sent_no_longer_counts(
    socket: Socket, outbox: Outbox, overflows: list[str]
) -> None:
    for _ in range(5):
        socket.reads.clear()
        outbox.write("first")
        outbox.write("x" * BOUND)
        socket.reads.set()
        await outbox.flush()
    assert overflows == []
    assert len(socket.arrived) == 10


async def test_a_client_that_has_gone_is_no_error_of_ours(socket: Socket, outbox: Outbox) -> None:
    socket.error = OSError("gone")
    outbox.write("1")
    socket.error = None
    outbox.write("2")
    assert socket.arrived == []


async def test_a_client_that_goes_while_frames_wait_is_no_error_either(
    socket: Socket, outbox: Outbox, overflows: list[str]
) -> None:
    socket.reads.clear()
    outbox.write("1")
    outbox.write("2")
    socket.error = OSError("gone")
    socket.reads.set()
    await outbox.flush()
    socket.error = None
    outbox.write("3")
    assert socket.arrived == []
    assert overflows == []


async def test_a_send_that_fails_later_in_the_queue_ends_the_queue(
    socket: Socket, outbox: Outbox
) -> None:
    socket.reads.clear()
    outbox.write("1")
    outbox.write("2")
    outbox.write("3")
    sent = socket.arrived

    class Picky(list[str]):
        def append(self, frame: str) -> None:
            if frame == "2":
                raise OSError("gone")
            super().append(frame)

    socket.arrived = Picky(sent)
    socket.reads.set()
    await outbox.flush()
    assert socket.arrived == ["1"]


async def test_closing_forgets_what_waits_and_ends_the_task(socket: Socket, outbox: Outbox) -> None:
    before = asyncio.all_tasks()
    socket.reads.clear()
    outbox.write("1")
    outbox.write("2")
    outbox.close()
    outbox.write("3")
    await until(lambda: asyncio.all_tasks() == before)
    socket.reads.set()
    await outbox.flush()
    assert socket.arrived == []


async def test_closing_reaches_the_send_that_waits() -> None:
    ended = asyncio.Event()

    async def send(frame: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    outbox = Outbox(send, max_bytes=BOUND, overflow=lambda: None)
    outbox.write("1")
    await asyncio.sleep(0)
    outbox.close()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_closing_twice_is_closing(outbox: Outbox) -> None:
    outbox.close()
    outbox.close()


async def test_flushing_an_idle_outbox_returns_at_once(outbox: Outbox) -> None:
    await asyncio.wait_for(outbox.flush(), 1)


async def test_what_is_written_while_a_flush_waits_is_sent_by_it(
    socket: Socket, outbox: Outbox
) -> None:
    socket.reads.clear()
    outbox.write("1")
    flush = asyncio.create_task(outbox.flush())
    await asyncio.sleep(0)
    outbox.write("2")
    socket.reads.set()
    await flush
    assert socket.arrived == ["1", "2"]


async def test_a_send_that_catches_an_error_of_what_it_waits_for_goes_on() -> None:
    arrived: list[str] = []
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def send(frame: str) -> None:
        try:
            await answer
        except OSError:
            arrived.append(f"{frame} again")

    outbox = Outbox(send, max_bytes=BOUND, overflow=lambda: None)
    outbox.write("1")
    answer.set_exception(OSError("try again"))
    await outbox.flush()
    assert arrived == ["1 again"]


async def test_a_write_may_come_from_a_callback_of_the_loop(socket: Socket, outbox: Outbox) -> None:
    socket.reads.clear()
    asyncio.get_running_loop().call_soon(outbox.write, "1")
    await asyncio.sleep(0)
    socket.reads.set()
    await outbox.flush()
    assert socket.arrived == ["1"]
