"""The log: a writer waits for nobody, and no trouble after its commit is its own."""

from __future__ import annotations

import pytest

from tests.transactions import Open, append, in_thread, two_writers
from wagtail_live import head, history, numbering

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]


@two_writers
def test_a_writer_does_not_wait_for_whoever_holds_the_head() -> None:
    start = head.position().number
    holder = Open(lambda: head._lock("default", wait=True))
    in_thread(lambda: append("not numbered yet"))
    assert numbering.has_unnumbered()
    assert history.read(start) == []
    holder.commit()
    assert numbering.number() == 1
    assert [one.object_id for one in history.read(start)] == ["not numbered yet"]


def test_a_failed_numbering_does_not_break_the_writer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = head.position().number

    def fail(**kwargs: object) -> int:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(numbering, "number", fail)
        append("kept")
    assert "a relay will do it" in caplog.text
    assert numbering.number() == 1
    assert [one.object_id for one in history.read(start)] == ["kept"]
