"""Retention: entries go in order, and what is left is a whole log with a floor."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from tests.servers import wait_until
from tests.transactions import append
from wagtail_live import head, history, log, numbering, retention
from wagtail_live.exceptions import BadCursor

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]


def test_pruning_is_exact_at_the_boundary() -> None:
    start = head.position()
    append("x")
    append("y")
    x, y = (one.position for one in history.read(start.number))
    assert retention.prune(older_than=timedelta(0)) == 2
    history.prove(y)
    with pytest.raises(BadCursor) as refused:
        history.prove(x)
    assert refused.value.reason == "expired"
    append("z")
    history.prove(y)
    assert [one.object_id for one in history.read(y.number)] == ["z"]


def test_only_what_is_older_than_the_retention_is_pruned() -> None:
    append("x")
    assert retention.prune() == 0
    history.prove(head.position())


def test_pruning_waits_for_nobody_and_loses_no_unnumbered_entry() -> None:
    with transaction.atomic():
        append("x")
        assert retention.prune(older_than=timedelta(0)) == 0
    wait_until(lambda: numbering.number() == 0)
    assert [one.object_id for one in history.read(head.position().number - 1)] == ["x"]


def test_pruning_goes_in_steps_and_each_leaves_a_whole_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "PRUNE_LIMIT", 2)
    start = head.position()
    for number in range(5):
        append(number)
    positions = [one.position for one in history.read(start.number)]
    floors = []
    step = retention._step

    def watched(*args: Any, **kwargs: Any) -> int:
        deleted = step(*args, **kwargs)
        floors.append(head.floor())
        assert [one.position for one in history.since(head.floor())] == [
            one for one in positions if one.number > head.floor().number
        ]
        return deleted

    monkeypatch.setattr(retention, "_step", watched)
    assert retention.prune(older_than=timedelta(0)) == 5
    assert floors == [positions[1], positions[3], positions[4], positions[4]]


class TestNewEpoch:
    def test_no_position_of_the_old_one_proves_itself(self) -> None:
        start = head.position()
        append("x")
        append("y")
        old = [start, *(one.position for one in history.read(start.number))]
        assert retention.new_epoch() == 2
        for position in old:
            with pytest.raises(BadCursor):
                history.since(position)
        assert head.position().number == old[-1].number
        append("z")
        assert [one.object_id for one in history.since(head.floor())] == ["z"]
        for position in old:
            with pytest.raises(BadCursor):
                history.since(position)

    def test_what_waits_for_a_position_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log, "number_and_ring", lambda **_: None)
        append("waits")
        assert retention.new_epoch() == 0
        assert numbering.number() == 1
        assert [one.object_id for one in history.since(head.floor())] == ["waits"]

    def test_the_command_asks_first(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = head.position()
        monkeypatch.setattr("builtins.input", lambda question: "no")
        with pytest.raises(CommandError):
            call_command("live_new_epoch")
        assert head.position() == before
        monkeypatch.setattr("builtins.input", lambda question: "yes")
        call_command("live_new_epoch")
        call_command("live_new_epoch", "--noinput")
        assert head.position() != before
        said = "A new epoch begins. 0 entries of the old one are deleted."
        assert capsys.readouterr().out.splitlines() == [said, said]


def test_the_command_prunes_by_hours(capsys: pytest.CaptureFixture[str]) -> None:
    append("x")
    call_command("live_prune")
    call_command("live_prune", "--hours=0")
    assert capsys.readouterr().out.splitlines() == [
        "0 entries deleted, older than 24 hours.",
        "1 entries deleted, older than 0 hours.",
    ]
