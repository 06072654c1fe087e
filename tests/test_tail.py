"""The newest entries in memory: dense, proven, bounded, and what each of them touched."""

from __future__ import annotations

import pytest

from wagtail_live import tail
from wagtail_live.events import Entry, Kind, Position, Touched
from wagtail_live.exceptions import BadCursor
from wagtail_live.tail import Tail


def at(number: int, log: str = "a") -> Position:
    return Position(number, f"{log}{number}")


def entry(number: int) -> Entry:
    return Entry(at(number), Kind.SAVE, "news.page", str(number), None)


def touched(*numbers: int, label: str = "news.page") -> Touched:
    """Each number touches the key of its own name and the key 0."""
    keys: dict[object, int] = {number: number for number in numbers}
    keys[0] = max(numbers)
    return Touched(changed={label: keys}, steps={label: frozenset(numbers)})


@pytest.fixture
def full() -> Tail:
    made = Tail(at(10))
    for number in (11, 12, 13):
        made.extend([entry(number)], touched(number))
    return made


def test_it_reaches_what_it_can_prove(full: Tail) -> None:
    assert [full.reaches(at(number)) for number in (9, 10, 12, 13, 14)] == [
        False, True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("number", [10, 11, 13])
def test_a_position_of_another_log_is_refused(full: Tail, number: int) -> None:
    with pytest.raises(BadCursor) as refused:
        full.reaches(at(number, "b"))
    assert refused.value.reason == "unknown"


def test_a_gap_is_everything_after_a_position_and_what_it_touched(full: Tail) -> None:
    gap = full.gap(at(11))
    assert [one.position.number for one in gap.entries] == [12, 13]
    assert (gap.batch.before, gap.batch.last) == (at(11), at(13))
    assert gap.batch.changed == {"news.page": {12, 13, 0}}
    assert full.gap(at(13)).batch.changed == {}


def test_who_is_at_the_same_step_missed_the_same(full: Tail) -> None:
    full.extend([entry(14)], touched(14, label="news.notice"))
    full.extend([entry(15)], touched(15))
    labels = {"news.page"}
    steps = [full.step(labels, at(number)) for number in range(10, 16)]
    assert steps == [11, 12, 13, 15, 15, None]


def test_renewals_and_comparisons_are_told_as_long_as_they_lie_ahead() -> None:
    made = Tail(at(0))
    made.extend([entry(1), entry(2)], Touched(compare={"x": 1}, renew={"x": 2}))
    assert made.gap(at(0)).batch.compare == {"x"}
    assert made.gap(at(1)).batch.compare == frozenset()
    assert made.gap(at(1)).batch.renew == {"x"}


def test_reaching_back_changes_nothing_for_those_who_are_ahead(full: Tail) -> None:
    before = full.gap(at(11))
    full.reach_back(at(8), [entry(9), entry(10)], touched(9, 10))
    assert full.base == at(8)
    assert full.gap(at(11)) == before
    assert [one.position.number for one in full.gap(at(8)).entries] == [9, 10, 11, 12, 13]
    assert full.gap(at(9)).batch.changed == {"news.page": {10, 11, 12, 13, 0}}


def test_beyond_its_bound_the_older_half_goes(full: Tail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "ENTRIES_LIMIT", 3)
    full.extend([entry(14)], touched(14))
    assert (full.base, full.last, len(full)) == (at(12), at(14), 2)
    assert not full.reaches(at(11))
    assert full.gap(at(12)).batch.changed == {"news.page": {13, 14, 0}}
    assert full.step({"news.page"}, at(12)) == 13


def test_entries_that_touched_too_much_are_not_kept(
    full: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "KEYS_LIMIT", 50)
    many = Touched(changed={"news.page": dict.fromkeys(range(1000), 14)})
    full.extend([entry(14)], many)
    assert (full.base, len(full)) == (at(14), 0)
    assert full.reaches(at(14))
