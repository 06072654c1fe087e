"""The log's history: which positions are of it, and how it is."""

from __future__ import annotations

import pytest

from tests.transactions import append
from wagtail_live import head, history, numbering
from wagtail_live.events import Position
from wagtail_live.exceptions import BadCursor
from wagtail_live.models import Entry

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]


def test_the_log_is_read_in_steps() -> None:
    start = head.position().number
    for key in "abc":
        append(key)
    first = history.read(start, limit=2)
    rest = history.read(first[-1].position.number, limit=2)
    assert [one.object_id for one in first] == ["a", "b"]
    assert [one.object_id for one in rest] == ["c"]


def test_every_position_of_the_log_proves_itself() -> None:
    start = head.position()
    append("x")
    append("y")
    for position in [start, *(one.position for one in history.read(start.number))]:
        history.prove(position)


def test_positions_of_another_history_do_not() -> None:
    append("x")
    append("y")
    number = head.position().number
    for wrong in (
        Position(number, "0" * 32),
        Position(number - 1, "0" * 32),
        Position(number + 1, head.position().uuid),
    ):
        with pytest.raises(BadCursor) as refused:
            history.prove(wrong)
        assert refused.value.reason == "unknown"


def test_the_state_of_the_log_counts_what_is_there() -> None:
    for key in "abc":
        append(key)
    numbering.number()
    Entry.objects.create(kind="save", model="newsroom.notice", object_id="waits")
    Entry.objects.create(kind="save", model="newsroom.notice", object_id="", settled=False)
    state = history.state()
    assert state.head == head.position().number
    assert state.unnumbered == 1
    assert state.waiting_seconds < 30 and state.oldest_seconds < 30
    assert state.entries == Entry.objects.count() - 1
