"""Those who wait are told by a reading that began after they came, and by no other."""

from __future__ import annotations

import pytest

from wagtail_live.waiters import Waiters


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


async def test_who_was_there_when_a_reading_began_is_told_at_its_end(waiters: Waiters) -> None:
    read = waiters.join()
    assert waiters.begin()
    assert not read.done()
    waiters.tell()
    assert read.done()
    assert not waiters


async def test_who_comes_during_a_reading_waits_for_the_next(waiters: Waiters) -> None:
    waiters.begin()
    read = waiters.join()
    waiters.tell()
    assert not read.done()
    assert waiters
    waiters.begin()
    waiters.tell()
    assert read.done()


async def test_a_reading_that_left_something_out_loses_nobody(waiters: Waiters) -> None:
    early = waiters.join()
    waiters.begin()
    late = waiters.join()
    assert waiters.begin()
    waiters.tell()
    assert early.done() and late.done()


async def test_who_has_gone_is_not_told(waiters: Waiters) -> None:
    gone, there = waiters.join(), waiters.join()
    gone.cancel()
    waiters.begin()
    waiters.tell()
    assert gone.cancelled() and there.done()


def test_a_reading_may_serve_nobody(waiters: Waiters) -> None:
    assert not waiters.begin()
    waiters.tell()
    assert not waiters
