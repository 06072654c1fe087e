from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagtail_live import events
from wagtail_live.events import Audience, Batch, Kind, Position, Query

positions = st.integers(0, 2**40).map(lambda number: Position(number, f"{number:032x}"))
labels = st.sampled_from(["wagtailcore.page", "newsroom.articlepage", "newsroom.author"])
keys = st.frozensets(st.integers(1, 9), max_size=5)
batches = st.builds(
    Batch,
    before=positions,
    last=positions,
    changed=st.dictionaries(labels, keys),
    compare=st.frozensets(labels),
    renew=st.frozensets(labels),
)


@pytest.mark.parametrize(
    "value",
    [Position(1, "ab"), Query("pages"), Audience(), Batch(Position(1, "a"), Position(2, "b"))],
)
def test_values_are_frozen_and_slotted(value: object) -> None:
    name = dataclasses.fields(value)[0].name  # type: ignore[arg-type]  # they are dataclasses
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")


def test_equal_queries_and_audiences_are_one_key() -> None:
    pairs = {(Query("pages", (("type", "x"),)), Audience(site=1, groups=(1, 2))) for _ in range(3)}
    assert len(pairs) == 1


def test_an_audience_is_the_public_unless_it_says_more() -> None:
    public = Audience()
    assert not public.authenticated
    assert not public.superuser
    assert public.groups == public.passed_pages == public.passed_collections == ()


def test_a_kind_is_its_name_in_the_log() -> None:
    assert [str(kind) for kind in Kind] == ["save", "delete", "access", "site", "rights"]


@given(batches, batches)
def test_a_merged_batch_says_what_both_say(first: Batch, second: Batch) -> None:
    both = first.merge(second)
    assert (both.before, both.last) == (first.before, second.last)
    assert both.compare == first.compare | second.compare
    assert both.renew == first.renew | second.renew
    assert both.changed.keys() == first.changed.keys() | second.changed.keys()
    for label, found in both.changed.items():
        assert found == first.changed.get(label, frozenset()) | second.changed.get(
            label, frozenset()
        )


@given(batches, batches)
def test_merging_leaves_the_parts_alone(first: Batch, second: Batch) -> None:
    before = dict(first.changed), dict(second.changed)
    first.merge(second)
    assert (first.changed, second.changed) == before


@given(batches, batches, batches)
def test_it_does_not_matter_which_of_three_are_merged_first(
    first: Batch, second: Batch, third: Batch
) -> None:
    assert first.merge(second).merge(third) == first.merge(second.merge(third))


def test_the_vocabulary_is_values_only() -> None:
    functions = {
        name
        for one in vars(events).values()
        if dataclasses.is_dataclass(one)
        for name in vars(one)
        if not name.startswith("_") and callable(getattr(one, name))
    }
    assert functions == {"batch", "merge"}
