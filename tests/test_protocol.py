from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from wagtail_live import protocol
from wagtail_live.exceptions import (
    Forbidden,
    InvalidPayload,
    LiveError,
    TooManySubscriptions,
    UnknownType,
)
from wagtail_live.protocol import CloseCode, Ping, Pong, Subscribe, Unsubscribe, decode, envelope

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
names = st.sampled_from(["type", "uid", "collection", "query", "item", "event", "cursor"])
plausible = st.sampled_from([*protocol.TYPES, "create", "pages", "1", 1]) | json_values
messages = st.dictionaries(names, plausible).map(json.dumps)
surrogates = st.text(st.characters(codec=None, categories=["Cs", "L", "P"]))


def refused(text: str) -> LiveError:
    with pytest.raises(LiveError) as caught:
        decode(text)
    return caught.value


def subscribe(**fields: Any) -> Subscribe:
    message = decode(json.dumps({"type": "subscribe", "collection": "pages", **fields}))
    assert isinstance(message, Subscribe)
    return message


# What a client says


def test_a_subscribe_needs_no_more_than_a_collection() -> None:
    message = subscribe()
    assert message == Subscribe(collection="pages")
    assert message.query == {}
    assert (message.item, message.event, message.cursor, message.uid) == (UNSET,) * 4


def test_a_subscribe_says_everything_at_once() -> None:
    message = subscribe(query={"limit": 3}, item=12, event="update", cursor="c", uid="1")
    assert message.query == {"limit": 3}
    assert (message.item, message.event, message.cursor, message.uid) == (12, "update", "c", "1")


@pytest.mark.parametrize("query", [{}, {"a": [1, "x", True]}, "type=x&limit=3", "?limit=3", ""])
def test_a_query_is_an_object_or_a_query_string(query: object) -> None:
    assert subscribe(query=query).query == query


@pytest.mark.parametrize("item", [1, "1", "main"])
def test_an_item_is_a_number_or_text(item: object) -> None:
    assert subscribe(item=item).item == item


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"unsubscribe"}', Unsubscribe()),
        ('{"type":"unsubscribe","uid":"1"}', Unsubscribe(uid="1")),
        ('{"type":"ping"}', Ping()),
        ('{"type":"ping","uid":"x"}', Ping(uid="x")),
        ('{"type":"pong"}', Pong()),
    ],
)
def test_the_other_messages_are_read_too(text: str, message: object) -> None:
    assert decode(text) == message


def test_unknown_fields_are_ignored() -> None:
    assert decode('{"type":"ping","more":[1]}') == Ping()


def test_two_subscribes_without_a_query_share_nothing() -> None:
    query = subscribe().query
    assert isinstance(query, dict)
    query["limit"] = 1
    assert subscribe().query == {}


# What cannot be understood


@pytest.mark.parametrize("text", ["", " ", "{", "null", "1", '"ping"', "[]", "[{}]", "{}", "\x00"])
def test_what_is_not_an_object_with_a_type_is_an_invalid_payload(text: str) -> None:
    assert type(refused(text)) is InvalidPayload


@pytest.mark.parametrize("kind", ["items", "Auth", "Subscribe", "", "__proto__", "init", "x" * 999])
def test_a_type_that_there_is_not_is_an_unknown_type(kind: str) -> None:
    assert type(refused(json.dumps({"type": kind}))) is UnknownType


@pytest.mark.parametrize("kind", [1, None, True, ["subscribe"], {}])
def test_a_type_that_is_no_text_is_an_invalid_payload(kind: object) -> None:
    assert type(refused(json.dumps({"type": kind}))) is InvalidPayload


@pytest.mark.parametrize(
    "fields",
    [
        {"collection": 1},
        {"collection": None},
        {"collection": "x" * 201},
        {"query": 1},
        {"query": []},
        {"query": None},
        {"item": 1.5},
        {"item": True},
        {"item": [1]},
        {"item": "x" * 201},
        {"event": "init"},
        {"event": ["create"]},
        {"cursor": 1},
        {"cursor": "x" * 501},
        {"uid": 1.5},
        {"uid": True},
        {"uid": {}},
        {"uid": "x" * 201},
        {"uid": 2**63},
    ],
)
def test_a_field_of_the_wrong_kind_is_named_in_the_answer(fields: dict[str, object]) -> None:
    text = json.dumps({"type": "subscribe", "collection": "pages", **fields})
    problem = refused(text)
    assert type(problem) is InvalidPayload
    assert f"$.{next(iter(fields))}" in problem.message


def test_a_missing_field_is_named_in_the_answer() -> None:
    message = refused('{"type":"subscribe"}').message
    assert message == (
        "The subscribe message is not valid: Object missing required field `collection`."
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ping","uid":NaN}',
        '{"type":"ping","uid":Infinity}',
        '{"type":"subscribe","collection":"pages","query":{"limit":NaN}}',
        '{"type":"subscribe","collection":"pages","query":{"limit":1e999}}',
        '{"type":"subscribe","collection":"pages","item":' + "1" * 5000 + "}",
        '{"type":"subscribe","collection":"pages","query":{"limit":' + "1" * 5000 + "}}",
        '{"type":"ping","uid":' + "1" * 5000 + "}",
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"type":"x","a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"type":"subscribe","collection":"pages","query":{"a":' + "[" * 100_000 + "]" * 100_000,
        '{"type":"ping","uid":"\ud800"}',
        '{"type":"ping","uid":"\\ud800"}',
        '{"type":"ping","uid":"\\udc00\\ud800"}',
    ],
    ids=lambda text: ascii(text)[:50],
)
def test_what_json_does_not_allow_or_python_cannot_hold_is_an_invalid_payload(text: str) -> None:
    assert type(refused(text)) is InvalidPayload
    envelope(text)


def test_of_a_name_that_is_there_twice_the_last_counts() -> None:
    assert decode('{"type":"ping","uid":"1","uid":"2"}') == Ping(uid="2")


def test_a_type_that_is_there_twice_is_no_way_around_the_checks() -> None:
    assert type(refused('{"type":"ping","type":"subscribe"}')) is InvalidPayload


def test_the_names_of_javascripts_prototypes_are_names_like_others() -> None:
    query = {"__proto__": "1", "constructor": "2"}
    assert subscribe(query=query, uid="__proto__").query == query


@given(st.text() | surrogates | messages | json_values.map(json.dumps))
@example('{"type":"subscribe","collection":"pages","uid":"1","query":{"limit":1E400}}')
def test_no_text_raises_anything_but_a_live_error(text: str) -> None:
    try:
        message = decode(text)
    except LiveError as problem:
        frame = json.loads(protocol.error(*_about(text, problem)))
        assert frame["error"]["code"] in {"INVALID_PAYLOAD", "UNKNOWN_TYPE"}
    else:
        assert isinstance(message, protocol.Message)


def _about(text: str, problem: LiveError) -> tuple[str | None, LiveError, str | None]:
    kind, uid = envelope(text)
    return kind, problem, uid


# What can be said about what was not understood


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"type":"subscribe","uid":"1","collection":5}', ("subscribe", "1")),
        ('{"uid":"1"}', (None, "1")),
        ('{"type":5,"uid":7}', (None, "7")),
        ('{"type":"x","uid":true}', ("x", None)),
        ('{"type":"x","uid":1.5}', ("x", None)),
        ('{"type":"x","uid":[1]}', ("x", None)),
        ("[]", (None, None)),
        ("{", (None, None)),
    ],
)
def test_the_envelope_is_read_as_far_as_it_can_be(
    text: str, found: tuple[str | None, str | None]
) -> None:
    assert envelope(text) == found


# What the server says


@pytest.mark.parametrize(("said", "echoed"), [("1", "1"), (1, "1"), (0, "0"), (-5, "-5"), ("", "")])
def test_a_uid_is_echoed_as_text(said: str | int, echoed: str) -> None:
    message = decode(json.dumps({"type": "ping", "uid": said}))
    assert isinstance(message, Ping)
    assert json.loads(protocol.pong(message.uid)) == {"type": "pong", "uid": echoed}
    assert envelope(json.dumps({"uid": said}))[1] == echoed


def test_a_ping_without_uid_gets_a_pong_without_uid() -> None:
    assert json.loads(protocol.pong(UNSET)) == {"type": "pong"}


def test_the_servers_ping_is_one_that_it_would_understand_itself() -> None:
    assert decode(protocol.PING) == Ping()


@pytest.mark.parametrize("kind", [*sorted({*protocol.TYPES} - {"ping", "pong"}), "subscription"])
def test_an_error_answers_in_the_type_that_was_asked(kind: str) -> None:
    assert json.loads(protocol.error(kind, Forbidden(), "1")) == {
        "type": kind,
        "status": "error",
        "error": {"code": "FORBIDDEN", "message": Forbidden().message},
        "uid": "1",
    }


@pytest.mark.parametrize("kind", [None, "items", '"><script>'])
def test_an_error_about_no_known_type_comes_from_the_server(kind: str | None) -> None:
    assert json.loads(protocol.error(kind, UnknownType()))["type"] == "server"


@pytest.mark.parametrize("kind", ["ping", "pong"])
def test_an_error_is_no_ping_which_clients_would_answer(kind: str) -> None:
    assert json.loads(protocol.error(kind, Forbidden()))["type"] == "server"


def test_an_error_without_uid_has_none() -> None:
    assert "uid" not in json.loads(protocol.error("subscribe", TooManySubscriptions()))


def test_a_frame_holds_what_it_was_given_and_nothing_else() -> None:
    assert json.loads(protocol.subscription("unsubscribe", uid=None)) == {
        "type": "subscription",
        "event": "unsubscribe",
    }
    assert json.loads(
        protocol.subscription(
            "init", uid="1", data='[{"id":1}]', cursor="c", reset="expired", total_count=1
        )
    ) == {
        "type": "subscription",
        "event": "init",
        "reset": "expired",
        "data": [{"id": 1}],
        "meta": {"total_count": 1},
        "uid": "1",
        "cursor": "c",
    }


def test_nothing_found_is_a_count_too() -> None:
    frame = json.loads(protocol.subscription("init", uid="1", data="[]", total_count=0))
    assert frame["meta"] == {"total_count": 0}


@given(st.text(max_size=200))
def test_any_uid_comes_back_as_it_was(uid: str) -> None:
    for frame in (
        protocol.subscription("delete", uid=uid, data="[1]"),
        protocol.error("subscribe", Forbidden(), uid),
        protocol.pong(uid),
    ):
        assert json.loads(frame)["uid"] == uid


@given(json_values)
def test_data_goes_into_the_frame_as_the_text_it_is(value: object) -> None:
    data = json.dumps(value)
    assert data in protocol.subscription("update", uid="1", data=data)


def test_close_codes_are_the_webs_own_or_in_the_range_for_applications() -> None:
    assert all(code in {1009, 1011, 1012} or 4400 <= code <= 4499 for code in CloseCode)


@pytest.mark.parametrize(
    ("sessions", "seconds"),
    [(0, 1), (1, 1), (200, 1), (201, 2), (2000, 10), (5999, 30), (10**6, 30)],
)
def test_the_more_clients_there_are_the_longer_they_take_to_come_back(
    sessions: int, seconds: int
) -> None:
    assert protocol.reconnect_seconds(sessions) == seconds


def test_the_advice_for_coming_back_is_a_number_in_the_frame() -> None:
    frame = json.loads(protocol.subscription("resume", uid="1", reconnect_seconds=7))
    assert frame["reconnect_seconds"] == 7
