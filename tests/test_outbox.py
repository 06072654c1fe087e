from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wagtail_live import outbox as outbox_module
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


async def test_as_much_as_the_bound_may_wait_and_one_frame_beyond_it(
    socket: Socket, outbox: Outbox, overflows: list[str]
) -> None:
    socket.reads.clear()
    outbox.write("first")  # on its way: it does not wait
    outbox.write("x" * BOUND)
    outbox.write("y" * BOUND)
    assert overflows == []
    socket.reads.set()
    await outbox.flush()
    assert socket.arrived == ["first", "x" * BOUND, "y" * BOUND]


async def test_more_than_the_bound_gives_the_client_up_and_says_so_once(
    socket: Socket, outbox: Outbox, overflows: list[str]
) -> None:
    socket.reads.clear()
    outbox.write("first")
    outbox.write("x" * BOUND)
    for _ in range(5):
        outbox.write("yy")
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
    outbox.write("x")
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


# What a client has answered to


PING = "?"


@pytest.fixture
async def asking(socket: Socket, overflows: list[str]) -> Outbox:
    """An outbox of a client that can answer; its socket takes whatever it is given, as Daphne's."""
    return Outbox(
        socket.send, max_bytes=BOUND, overflow=lambda: overflows.append("overflow"), ping=PING
    )


async def test_at_half_of_the_bound_the_client_is_asked(socket: Socket, asking: Outbox) -> None:
    asking.write("x" * (BOUND // 2 - 1))
    assert PING not in socket.arrived
    asking.write("y")
    assert socket.arrived[1:] == ["y", PING]


async def test_at_the_bound_frames_are_kept_until_it_answers(
    socket: Socket, asking: Outbox, overflows: list[str]
) -> None:
    half = "x" * (BOUND // 2)
    for frame in (half, half, "3", "4"):
        asking.write(frame)
    assert socket.arrived == [half, PING, half, PING]
    asking.answered()
    assert socket.arrived[4:] == ["3", "4"]
    assert overflows == []


async def test_beyond_the_bound_of_what_is_kept_the_client_is_given_up(
    socket: Socket, asking: Outbox, overflows: list[str]
) -> None:
    for _ in range(20):
        asking.write("x" * (BOUND // 2))
    assert overflows == ["overflow"]
    assert socket.arrived.count("x" * (BOUND // 2)) == 2
    asking.answered()
    assert socket.arrived.count("x" * (BOUND // 2)) == 2


@pytest.mark.parametrize("size", [1, BOUND // 3, BOUND, 5 * BOUND])
async def test_a_client_that_answers_gets_everything_in_order_however_much_it_is(
    socket: Socket, asking: Outbox, overflows: list[str], size: int
) -> None:
    answered = 0
    written = []
    for number in range(500):
        written.append(f"{number} ".ljust(size, "x"))
        asking.write(written[-1])
        while answered < socket.arrived.count(PING):
            answered += 1
            asking.answered()
    assert [frame for frame in socket.arrived if frame != PING] == written
    assert overflows == []


async def test_an_answer_that_nobody_asked_for_gives_no_credit(
    socket: Socket, asking: Outbox
) -> None:
    for _ in range(50):
        asking.answered()
    for _ in range(4):
        asking.write("x" * (BOUND // 2))
    assert len([frame for frame in socket.arrived if frame != PING]) == 2


async def test_an_answer_is_about_what_was_sent_before_its_question(
    socket: Socket, asking: Outbox
) -> None:
    asking.ping()
    asking.write("x" * BOUND)
    asking.write("kept")
    asking.answered()  # to the first question: nothing had been sent yet
    assert "kept" not in socket.arrived
    asking.answered()
    assert socket.arrived[-1] == "kept"


async def test_a_client_that_never_answers_is_not_remembered_for_ever(
    socket: Socket, asking: Outbox
) -> None:
    for _ in range(1000):
        asking.write("x" * 0)
        asking.ping()
    assert len(asking._marks) <= outbox_module.PINGS
    asking.write("x" * BOUND)
    asking.write("kept")
    for _ in range(outbox_module.PINGS):
        asking.answered()
    assert socket.arrived[-1] == "kept"


async def test_a_question_waits_its_turn_behind_a_frame_that_blocks(
    socket: Socket, asking: Outbox
) -> None:
    socket.reads.clear()
    asking.write("1")
    asking.ping()
    asking.write("2")
    socket.reads.set()
    await asking.flush()
    assert socket.arrived == ["1", PING, "2"]


async def test_the_socket_and_the_answers_both_hold_frames_back(
    socket: Socket, asking: Outbox
) -> None:
    socket.reads.clear()
    half = "x" * (BOUND // 2)
    for frame in (half, half, "3"):
        asking.write(frame)
    asking.answered()  # nothing has been asked yet
    socket.reads.set()
    await asking.flush()
    assert socket.arrived == [half, PING, half, PING]
    asking.answered()
    assert socket.arrived[-1] == "3"


async def test_there_is_room_when_everything_was_sent_and_answered(
    socket: Socket, asking: Outbox
) -> None:
    async with asyncio.timeout(5):
        await asking.room()
        asking.write("x" * BOUND)
        waiting = asyncio.create_task(asking.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        asking.answered()
        await waiting
        socket.reads.clear()
        asking.write("1")
        waiting = asyncio.create_task(asking.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        socket.reads.set()
        await waiting


async def test_nobody_waits_for_room_in_an_outbox_that_is_closed(asking: Outbox) -> None:
    asking.write("x" * BOUND)
    waiting = asyncio.create_task(asking.room())
    await asyncio.sleep(0)
    asking.close()
    async with asyncio.timeout(5):
        await waiting
        await asking.room()
