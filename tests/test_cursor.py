from __future__ import annotations

import base64
import re
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wagtail_live.cursor import Sealer, fingerprint
from wagtail_live.events import Audience, Position, Query
from wagtail_live.exceptions import BadCursor

SEALER = Sealer(["a secret"])
QUERY = fingerprint(Query("pages"), Audience())

positions = st.builds(Position, st.integers(0, 2**64 - 1), st.uuids().map(lambda one: one.hex))
names = st.text(max_size=20)
queries = st.builds(
    Query,
    collection=names,
    parameters=st.lists(st.tuples(names, names), max_size=3).map(tuple),
    item=st.none() | st.integers(),
)
audiences = st.builds(
    Audience,
    site=st.none() | st.integers(1, 5),
    authenticated=st.booleans(),
    superuser=st.booleans(),
    groups=st.lists(st.integers(1, 5), max_size=3).map(tuple),
    passed_pages=st.lists(st.integers(1, 5), max_size=3).map(tuple),
    extra=st.lists(names | st.integers(), max_size=2).map(tuple),
)
live_queries = st.tuples(queries, audiences)


def reason(sealer: Sealer, cursor: str, live_query: bytes) -> str:
    with pytest.raises(BadCursor) as caught:
        sealer.open(cursor, live_query)
    return caught.value.reason


@given(positions, live_queries)
def test_what_is_sealed_can_be_opened(
    position: Position, live_query: tuple[Query, Audience]
) -> None:
    mark = fingerprint(*live_query)
    assert SEALER.open(SEALER.seal(position, mark), mark) == position


@given(positions)
def test_a_cursor_is_short_text_that_needs_no_escape(position: Position) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{92}", SEALER.seal(position, QUERY))


@given(positions)
def test_the_same_position_is_never_the_same_cursor(position: Position) -> None:
    assert SEALER.seal(position, QUERY) != SEALER.seal(position, QUERY)


@given(positions, st.integers(0, 91), st.integers(0, 6))
def test_any_flipped_bit_is_found(position: Position, index: int, bit: int) -> None:
    cursor = SEALER.seal(position, QUERY)
    flipped = cursor[:index] + chr(ord(cursor[index]) ^ 1 << bit) + cursor[index + 1 :]
    assert reason(SEALER, flipped, QUERY) == "unknown"


@given(positions, st.integers(0, 91))
def test_a_shortened_cursor_is_unknown(position: Position, length: int) -> None:
    assert reason(SEALER, SEALER.seal(position, QUERY)[:length], QUERY) == "unknown"


@given(positions, st.text(min_size=1, max_size=8))
@example(Position(1, "0" * 32), "=")
@example(Position(1, "0" * 32), "====")
def test_a_lengthened_cursor_is_unknown(position: Position, more: str) -> None:
    assert reason(SEALER, SEALER.seal(position, QUERY) + more, QUERY) == "unknown"


@given(positions)
def test_another_spelling_of_the_same_bytes_is_unknown(position: Position) -> None:
    cursor = SEALER.seal(position, QUERY)
    other = cursor.replace("-", "+").replace("_", "/")
    if other != cursor:
        assert reason(SEALER, other, QUERY) == "unknown"


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_an_unknown_cursor(text: str) -> None:
    assert reason(SEALER, text, QUERY) == "unknown"


@given(st.binary(min_size=69, max_size=69))
def test_any_bytes_of_the_right_length_are_an_unknown_cursor(raw: bytes) -> None:
    assert reason(SEALER, base64.urlsafe_b64encode(raw).decode(), QUERY) == "unknown"


@pytest.mark.parametrize("text", ["\ud800" * 92, "é" * 92, "=" * 92, "\x00" * 92, " " * 92])
def test_text_that_is_no_base64_is_an_unknown_cursor(text: str) -> None:
    assert reason(SEALER, text, QUERY) == "unknown"


@given(positions, live_queries, live_queries)
def test_a_cursor_serves_only_the_live_query_it_was_made_for(
    position: Position, one: tuple[Query, Audience], other: tuple[Query, Audience]
) -> None:
    cursor = SEALER.seal(position, fingerprint(*one))
    if one == other:
        assert SEALER.open(cursor, fingerprint(*other)) == position
    else:
        assert reason(SEALER, cursor, fingerprint(*other)) == "other_query"


@given(positions, st.text(max_size=50), st.text(max_size=50))
def test_another_secret_opens_nothing(position: Position, one: str, other: str) -> None:
    cursor = Sealer([one]).seal(position, QUERY)
    if one != other:
        assert reason(Sealer([other]), cursor, QUERY) == "unknown"


@given(positions)
def test_after_a_key_rotation_old_cursors_open_and_new_ones_use_the_new_key(
    position: Position,
) -> None:
    old, rotated, new = Sealer(["old"]), Sealer(["new", "old"]), Sealer(["new"])
    assert rotated.open(old.seal(position, QUERY), QUERY) == position
    assert new.open(rotated.seal(position, QUERY), QUERY) == position
    assert reason(old, rotated.seal(position, QUERY), QUERY) == "unknown"
    assert reason(new, old.seal(position, QUERY), QUERY) == "unknown"


def test_a_fallbacks_cursor_for_another_query_is_still_refused() -> None:
    cursor = Sealer(["old"]).seal(Position(1, "0" * 32), QUERY)
    other = fingerprint(Query("images"), Audience())
    assert reason(Sealer(["new", "old"]), cursor, other) == "other_query"


def test_secrets_may_be_bytes() -> None:
    position = Position(1, "0" * 32)
    assert Sealer(["secret"]).open(Sealer([b"secret"]).seal(position, QUERY), QUERY) == position


@given(live_queries, live_queries)
def test_fingerprints_are_equal_for_equal_live_queries_only(
    one: tuple[Query, Audience], other: tuple[Query, Audience]
) -> None:
    assert (fingerprint(*one) == fingerprint(*other)) == (one == other)


def test_another_process_makes_the_same_fingerprint() -> None:
    code = (
        "from wagtail_live.cursor import fingerprint\n"
        "from wagtail_live.events import Audience, Query\n"
        "query = Query('pages', (('fields', 'title'), ('type', 'newsroom.ArticlePage')), 12)\n"
        "print(fingerprint(query, Audience(site=1, groups=(2, 3), extra=('x',))).hex())\n"
    )
    done = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert done[0] == done[1]
    assert len(bytes.fromhex(done[0])) == 16
