from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagtail_live import protocol
from wagtail_live.events import Answer, Audience, Batch, Missed, Position, Query, Snapshot
from wagtail_live.exceptions import ServiceUnavailable
from wagtail_live.hub import Follower, Hub, LiveQuery
from wagtail_live.outbox import Outbox

PAGE = "wagtailcore.page"
ARTICLE = "newsroom.articlepage"
SECTION = "newsroom.sectionpage"
EVENTS: tuple[protocol.Event | None, ...] = (None, "create", "update", "delete")


class Client:
    """Somebody who follows: keeps the very texts that were written, and reads them as frames."""

    def __init__(self, uid: str | None = "1", event: protocol.Event | None = None) -> None:
        self.texts: list[str] = []
        self.ended = 0
        self.follower = Follower(
            outbox=Outbox(self._send, max_bytes=0, overflow=lambda: None),
            uid=uid,
            event=event,
            ended=self._end,
        )

    async def _send(self, text: str) -> None:
        self.texts.append(text)

    def _end(self) -> None:
        self.ended += 1

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    @property
    def told(self) -> list[tuple[str, Any]]:
        """Event and data of each frame, rows by their id."""
        return [
            (frame["event"], [row["id"] if isinstance(row, dict) else row for row in frame["data"]])
            for frame in self.frames
            if "data" in frame
        ]


def live_query(
    held: Iterable[Hashable] = (), *clients: Client, label: str = ARTICLE, **query: Any
) -> LiveQuery:
    made = LiveQuery(Query("pages", **query), Audience(), label, PAGE)
    made.rebase(Snapshot(frozenset(held), ()))
    for client in clients:
        made.add(client.follower)
    return made


def row(key: Hashable) -> str:
    return json.dumps({"id": key, "title": f"Title {key}"})


def answer(asked: Iterable[Hashable], found: Iterable[Hashable], **more: Any) -> Answer:
    return Answer(frozenset(asked), {key: row(key) for key in found}, **more)


def batch(*, compare: Iterable[str] = (), renew: Iterable[str] = (), **changed: Any) -> Batch:
    return Batch(
        before=Position(1, "a"),
        last=Position(2, "b"),
        changed={label.replace("_", "."): frozenset(keys) for label, keys in changed.items()},
        compare=frozenset(compare),
        renew=frozenset(renew),
    )


# Before and after decide the frame


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (False, False, []),
        (False, True, [("create", [1])]),
        (True, True, [("update", [1])]),
        (True, False, [("delete", [1])]),
    ],
)
def test_before_and_after_decide_the_event(
    before: bool, after: bool, told: list[tuple[str, Any]]
) -> None:
    client = Client()
    followed = live_query([1] if before else [], client)
    followed.settle(answer([1], [1] if after else []), "c")
    assert client.told == told
    assert followed.held == ({1} if after else set())


@given(
    st.frozensets(st.integers(1, 9)),
    st.frozensets(st.integers(1, 9)),
    st.frozensets(st.integers(1, 9)),
)
def test_every_key_is_told_by_its_own_before_and_after(
    held: frozenset[int], asked: frozenset[int], now: frozenset[int]
) -> None:
    client = Client()
    followed = live_query(held, client)
    followed.settle(answer(asked, asked & now), "c")
    told = {event: set(keys) for event, keys in client.told}
    assert told.get("create", set()) == (asked & now) - held
    assert told.get("update", set()) == asked & now & held
    assert told.get("delete", set()) == (asked & held) - now
    assert followed.held == (held - asked) | (asked & now)


@given(
    st.frozensets(st.integers(1, 9)),
    st.frozensets(st.integers(1, 9)),
    st.frozensets(st.integers(1, 9)),
)
def test_when_everything_was_compared_what_is_not_held_now_has_left(
    held: frozenset[int], changed: frozenset[int], now: frozenset[int]
) -> None:
    client = Client()
    followed = live_query(held, client)
    rows = (now - held) | (changed & now)
    followed.settle(answer(rows, rows, held=now), "c")
    told = {event: set(keys) for event, keys in client.told}
    assert told.get("delete", set()) == held - now
    assert told.get("create", set()) == now - held
    assert followed.held == now


@pytest.mark.parametrize("comes_back", [False, True], ids=["joins", "resumes"])
def test_what_somebody_comes_with_is_still_new_to_those_who_follow(comes_back: bool) -> None:
    early, late = Client(event="create"), Client()
    followed = live_query([1], early)
    if comes_back:
        followed.resume(
            late.follower, Missed({2: '{"id":2}'}, {}, frozenset(), Position(1, "")), "c"
        )
    else:
        followed.learn({1, 2})
        followed.add(late.follower)
    followed.settle(answer([1, 2], [1, 2]), "c")
    assert early.told == [("create", [2])]
    followed.settle(answer([2], [2]), "c")
    assert early.told == [("create", [2])]
    followed.settle(answer([2], []), "c")
    assert json.loads(late.texts[-1])["data"] == [2]


def test_what_had_left_when_somebody_joined_is_new_to_that_one_when_it_comes_back() -> None:
    client = Client()
    followed = live_query([1, 2], Client())
    followed.widen(snapshot(1))
    followed.add(client.follower)
    assert followed.told == {1}
    followed.settle(answer([2], [2], held=frozenset({1, 2})), "c")
    assert client.told == [("create", [2])]


# What followers have already


def test_a_row_that_everybody_has_is_not_told_again() -> None:
    client = Client()
    followed = live_query([1, 2], client)
    followed.settle(answer([1, 2], [1, 2]), "c")
    followed.settle(answer([1, 2], [1, 2]), "d")
    assert client.told == [("update", [1, 2])]
    followed.settle(Answer(frozenset({1, 2}), {1: '{"id":1}', 2: row(2)}), "e")
    assert client.told[1:] == [("update", [1])]


def test_a_row_of_the_base_is_not_told_again() -> None:
    client = Client()
    followed = live_query([])
    followed.widen(snapshot(1, 2))
    followed.add(client.follower)
    followed.settle(answer([1, 2], [1, 2]), "c")
    assert client.told == []


@pytest.mark.parametrize("returns", [False, True], ids=["joins", "resumes"])
def test_a_row_that_went_back_is_told_when_somebody_came_with_another(returns: bool) -> None:
    early, late = Client(), Client()
    followed = live_query([])
    followed.widen(snapshot(1))
    followed.add(early.follower)
    other = '{"id":1,"title":"Between"}'
    if returns:
        missed = Missed({}, {1: other}, frozenset(), Position(1, ""))
        followed.resume(late.follower, missed, "c")
    else:
        followed.widen(Snapshot(frozenset({1}), ((1, other),)))
        followed.add(late.follower)
    followed.settle(answer([1], [1]), "d")
    assert late.told[-1] == ("update", [1])


def test_who_came_back_gets_known_rows_until_the_log_is_proven_to_be_read() -> None:
    early, late = Client(), Client()
    followed = live_query([])
    followed.widen(snapshot(1))
    followed.add(early.follower)
    followed.resume(late.follower, Missed({}, {}, frozenset(), Position(1, "")), "c", now=5.0)
    followed.settle(answer([1], [1]), "d", proven=4.0)
    assert late.told == [("update", [1])]
    followed.settle(answer([1], [1]), "e", proven=6.0)
    followed.settle(answer([1], [1]), "f", proven=4.0)
    assert late.told == [("update", [1])]
    assert early.told == []


def test_what_nobody_may_notice_is_told_to_nobody() -> None:
    client = Client()
    followed = live_query([1, 2], client)
    followed.settle(answer([1, 2], [1, 2]), "c", quiet=frozenset({1}))
    assert client.told == [("update", [2])]
    assert followed.held == {1, 2}


def test_a_row_is_doubtful_when_it_is_not_known_who_has_it() -> None:
    followed = live_query([1, 2], Client())
    assert followed.doubtful(answer([1, 2, 3], [1, 3])) == {1}
    followed.settle(answer([1], [1]), "c")
    assert followed.doubtful(answer([1], [1])) == set()
    followed.resume(Client().follower, Missed({}, {}, frozenset(), Position(1, "")), "c")
    assert followed.doubtful(answer([1], [1])) == {1}
    assert followed.doubtful(Answer(frozenset({1}), {1: "{}"})) == set()


def test_what_is_remembered_of_rows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wagtail_live.hub.DIGESTS_LIMIT", 2)
    client = Client()
    followed = live_query([1, 2, 3], client)
    followed.settle(answer([1, 2, 3], [1, 2, 3]), "c")
    followed.settle(answer([1, 2, 3], [1, 2, 3]), "d")
    assert client.told[1:] == [("update", [1])]


def test_a_key_that_was_not_asked_about_stays() -> None:
    followed = live_query([1, 2])
    assert followed.left(answer([1], [])) == {1}
    followed.settle(answer([1], []), "c")
    assert followed.held == {2}


def test_what_leaves_is_told_first_and_by_its_key_alone() -> None:
    client = Client()
    live_query([3, 10, 2], client).settle(answer([1, 2, 3, 10], [1, 3]), "c")
    assert client.told == [("delete", [2, 10]), ("create", [1]), ("update", [3])]
    assert client.frames[0]["data"] == [2, 10]


def test_keys_of_any_kind_can_leave() -> None:
    client = Client()
    live_query(["b", 2, "a", 10], client).settle(answer([], [], held=frozenset()), "c")
    assert client.frames[0]["data"] == [2, 10, "a", "b"]


# Frames


def test_rows_reach_the_frame_as_the_text_they_are() -> None:
    client = Client()
    text = '{"id":1,"title":"\\u00e9 <é>",  "n": 1.50}'
    live_query([], client).settle(Answer(frozenset({1}), {1: text}), "c")
    assert f'"data":[{text}]' in client.texts[0]


def test_only_the_last_frame_of_a_change_has_the_cursor() -> None:
    client = Client()
    live_query([1, 2], client).settle(answer([1, 2, 3], [2, 3]), "new")
    assert [frame.get("cursor") for frame in client.frames] == [None, None, "new"]


@pytest.mark.parametrize("event", ["create", "update", "delete"])
def test_a_filter_leaves_its_own_event_and_the_cursor_with_it(event: protocol.Event) -> None:
    client = Client(event=event)
    live_query([1, 2], client).settle(answer([1, 2, 3], [2, 3]), "new")
    assert [frame["event"] for frame in client.frames] == [event]
    assert client.frames[0]["cursor"] == "new"


def test_a_filtered_follower_hears_nothing_of_other_events() -> None:
    client = Client(event="delete")
    live_query([1], client).settle(answer([1, 2], [1, 2]), "new")
    assert client.texts == []


def test_a_frame_is_encoded_once_for_all_who_use_one_uid() -> None:
    clients = [Client("1") for _ in range(100)]
    live_query([1], *clients).settle(answer([1], [1]), "c")
    assert len({id(client.texts[0]) for client in clients}) == 1


def test_each_follower_gets_its_own_uid_and_event() -> None:
    clients = {(uid, event): Client(uid, event) for uid in ("1", "2", None) for event in EVENTS}
    live_query([1, 2], *clients.values()).settle(answer([1, 2, 3], [2, 3]), "c")
    for (uid, event), client in clients.items():
        assert {frame.get("uid") for frame in client.frames} == {uid}
        expected = ["delete", "create", "update"] if event is None else [event]
        assert [frame["event"] for frame in client.frames] == expected


def test_nothing_changed_is_nothing_sent() -> None:
    client = Client()
    live_query([1], client).settle(answer([2], []), "c")
    assert client.texts == []


def test_who_has_left_hears_nothing_more() -> None:
    stays, leaves = Client(), Client()
    followed = live_query([], stays, leaves)
    followed.discard(leaves.follower)
    followed.discard(leaves.follower)
    followed.settle(answer([1], [1]), "c")
    assert (len(stays.texts), len(leaves.texts)) == (1, 0)


def test_followers_are_counted_and_their_groups_leave_nothing_behind() -> None:
    clients = [Client("1"), Client("1"), Client("2", "create")]
    followed = live_query([], *clients)
    assert len(followed) == 3
    assert set(followed) == {client.follower for client in clients}
    for client in clients:
        followed.discard(client.follower)
    assert len(followed) == 0
    assert not followed.followers


def test_one_client_may_follow_the_same_query_twice() -> None:
    client = Client()
    followed = live_query([], client, client)
    assert len(followed) == 1


# The base


def snapshot(*keys: int, held: Iterable[int] = ()) -> Snapshot:
    return Snapshot(frozenset(keys) | frozenset(held), tuple((key, row(key)) for key in keys))


def test_the_base_of_a_list_is_its_first_page_in_order_and_the_count_of_all() -> None:
    frame = json.loads(live_query().base(snapshot(3, 1, held=[7, 8]), "1", None, "c"))
    assert frame == {
        "type": "subscription",
        "event": "init",
        "data": [json.loads(row(3)), json.loads(row(1))],
        "meta": {"total_count": 4},
        "uid": "1",
        "cursor": "c",
    }


def test_the_base_of_nothing_is_an_empty_list() -> None:
    frame = json.loads(live_query().base(snapshot(), "1", None, "c"))
    assert (frame["data"], frame["meta"]) == ([], {"total_count": 0})


def test_the_base_of_an_item_is_the_object_itself() -> None:
    frame = json.loads(live_query(item=1).base(snapshot(1), "1", None, "c"))
    assert frame["data"] == json.loads(row(1))
    assert "meta" not in frame


def test_the_base_of_an_item_that_has_gone_is_null() -> None:
    assert json.loads(live_query(item=1).base(snapshot(), "1", None, "c"))["data"] is None


@pytest.mark.parametrize("event", ["create", "update", "delete"])
@pytest.mark.parametrize("item", [None, 1])
def test_who_filters_events_gets_a_base_without_data(
    event: protocol.Event, item: int | None
) -> None:
    frame = json.loads(live_query(item=item).base(snapshot(1), "1", event, "c"))
    assert frame == {"type": "subscription", "event": "init", "uid": "1", "cursor": "c"}


def test_a_renewed_query_gives_everybody_a_fresh_base_and_says_why() -> None:
    plain, filtered = Client("1"), Client("2", "update")
    followed = live_query([1, 9], plain, filtered)
    followed.renew(snapshot(1, 2), "renewed", "c")
    assert followed.held == {1, 2}
    [frame] = plain.frames
    assert (frame["event"], frame["reset"], frame["cursor"]) == ("init", "renewed", "c")
    assert [one["id"] for one in frame["data"]] == [1, 2]
    assert filtered.frames == [
        {"type": "subscription", "event": "init", "reset": "renewed", "uid": "2", "cursor": "c"}
    ]


def test_after_a_renewal_changes_are_told_from_the_new_base() -> None:
    client = Client()
    followed = live_query([1], client)
    followed.renew(snapshot(2, 3), "renewed", "c")
    followed.settle(Answer(frozenset({1, 2, 3}), {1: row(1), 2: '{"id":2}', 3: row(3)}), "c")
    assert client.told[1:] == [("create", [1]), ("update", [2])]


# Coming back


def missed(
    created: Iterable[int] = (), updated: Iterable[int] = (), left: Iterable[int] = ()
) -> Missed:
    return Missed(
        {key: row(key) for key in created},
        {key: row(key) for key in updated},
        frozenset(left),
        Position(9, "c"),
    )


def test_who_comes_back_is_told_so_then_gets_what_was_missed() -> None:
    client = Client()
    live_query([1, 2]).resume(client.follower, missed([1], [2], [3]), "c")
    assert client.frames[0] == {"type": "subscription", "event": "resume", "uid": "1"}
    assert [frame["event"] for frame in client.frames] == ["resume", "delete", "create", "update"]
    assert [frame.get("cursor") for frame in client.frames] == [None, None, None, "c"]


@pytest.mark.parametrize("event", EVENTS)
def test_who_missed_nothing_keeps_a_cursor_all_the_same(event: protocol.Event | None) -> None:
    client = Client(event=event)
    live_query([1]).resume(client.follower, missed(), "c")
    assert client.frames == [{"type": "subscription", "event": "resume", "uid": "1", "cursor": "c"}]


def test_who_missed_only_what_it_does_not_want_keeps_a_cursor_too() -> None:
    client = Client(event="delete")
    live_query([1]).resume(client.follower, missed([1]), "c")
    assert "reconnect_seconds" not in client.frames[0]
    assert [frame["event"] for frame in client.frames] == ["resume"]
    assert client.frames[0]["cursor"] == "c"


def test_who_came_back_follows_on_and_others_hear_nothing_of_it() -> None:
    there, back = Client(), Client()
    followed = live_query([1], there)
    followed.resume(back.follower, missed([2]), "c")
    assert there.texts == []
    followed.settle(answer([1, 2], [1]), "d")
    assert there.told == [("delete", [2]), ("update", [1])]
    assert [frame["event"] for frame in back.frames] == ["resume", "create", "delete", "update"]


# The end


def test_when_a_query_cannot_go_on_every_follower_is_told_and_let_go() -> None:
    clients = [Client("1"), Client("1", "create"), Client("2")]
    followed = live_query([1], *clients)
    followed.end(ServiceUnavailable())
    for client in clients:
        [frame] = client.frames
        assert (frame["type"], frame["status"]) == ("subscription", "error")
        assert frame["error"]["code"] == "SERVICE_UNAVAILABLE"
        assert frame["uid"] == client.follower.uid
        assert client.ended == 1
    assert len(followed) == 0


def test_a_follower_may_leave_while_it_is_told_of_the_end() -> None:
    client = Client()
    followed = live_query([1])
    follower = Follower(client.follower.outbox, "1", None, lambda: followed.discard(follower))
    followed.add(follower)
    followed.end(ServiceUnavailable())
    assert len(followed) == 0


# What can touch a query


def test_a_batch_about_other_models_is_no_question() -> None:
    assert live_query().question(batch(newsroom_author=[1])) is None
    assert live_query().question(batch(compare=[SECTION], renew=[SECTION])) is None


def test_changed_keys_are_asked_about() -> None:
    question = live_query([1]).question(batch(newsroom_articlepage=[1, 2]))
    assert question is not None
    assert (question.keys, question.compare, question.renew) == ({1, 2}, False, None)


def test_a_comparison_asks_for_everything_and_for_the_changed_keys() -> None:
    question = live_query().question(batch(compare=[ARTICLE], newsroom_articlepage=[1]))
    assert question is not None
    assert (question.keys, question.compare) == ({1}, True)


def test_a_renewal_comes_before_everything_else() -> None:
    question = live_query().question(
        batch(renew=[ARTICLE], compare=[ARTICLE], newsroom_articlepage=[1])
    )
    assert question is not None
    assert question.renew


def test_an_item_asks_only_about_itself() -> None:
    followed = live_query([1], item=1)
    assert followed.question(batch(newsroom_articlepage=[2, 3])) is None
    question = followed.question(batch(newsroom_articlepage=[1, 2]))
    assert question is not None
    assert question.keys == {1}


def test_an_item_is_asked_about_when_a_page_that_it_leans_on_changes() -> None:
    followed = live_query(item=1)
    followed.rebase(Snapshot(frozenset({1}), ((1, row(1)),), anchors=frozenset({5})))
    assert followed.question(batch(wagtailcore_page=[6])) is None
    question = followed.question(batch(wagtailcore_page=[5]))
    assert question is not None
    assert question.keys == {1}


def test_an_items_anchors_follow_its_rows() -> None:
    followed = live_query([1], item=1)
    followed.settle(answer([1], [1], anchors=frozenset({7})), "c")
    assert followed.question(batch(wagtailcore_page=[7])) is not None
    followed.settle(answer([1], []), "c")
    assert followed.question(batch(wagtailcore_page=[7])) is not None


@pytest.mark.parametrize("name", ["child_of", "descendant_of", "ancestor_of", "translation_of"])
def test_a_query_that_names_a_page_is_compared_when_that_page_changes(name: str) -> None:
    followed = live_query([1], parameters=((name, "5"),))
    assert followed.question(batch(wagtailcore_page=[6])) is None
    question = followed.question(batch(wagtailcore_page=[5]))
    assert question is not None
    assert question.compare


def test_a_query_that_names_the_root_is_compared_when_any_page_changes() -> None:
    followed = live_query([1], parameters=(("child_of", "root"),))
    question = followed.question(batch(wagtailcore_page=[9]))
    assert question is not None
    assert question.compare


# The hub


def test_a_live_query_is_found_by_its_query_and_audience() -> None:
    hub, followed = Hub(), live_query()
    hub.add(followed)
    assert hub.get(Query("pages"), Audience()) is followed
    assert hub.get(Query("pages"), Audience(authenticated=True)) is None
    assert (len(hub), list(hub)) == (1, [followed])


def test_the_hub_finds_what_a_batch_touches_and_nothing_else() -> None:
    hub = Hub()
    articles, sections = live_query(), live_query(label=SECTION, parameters=(("type", SECTION),))
    hub.add(articles)
    hub.add(sections)
    assert hub.touched(batch(newsroom_articlepage=[1])) == [articles]
    assert hub.touched(batch(compare=[SECTION])) == [sections]
    assert set(hub.touched(batch(renew=[SECTION, ARTICLE]))) == {articles, sections}
    assert hub.touched(batch(newsroom_author=[1])) == []


@pytest.mark.parametrize("about", [{"parameters": (("child_of", "5"),)}, {"item": 1}])
def test_a_page_of_another_type_touches_the_queries_that_lean_on_it(about: dict[str, Any]) -> None:
    hub, followed = Hub(), live_query([1], **about)
    followed.anchors = frozenset({5})
    hub.add(followed)
    assert hub.touched(batch(newsroom_sectionpage=[5], wagtailcore_page=[5])) == [followed]
    assert hub.touched(batch(newsroom_sectionpage=[6], wagtailcore_page=[6])) == []


def test_a_query_touched_in_two_ways_is_asked_once() -> None:
    hub, followed = Hub(), live_query([1], parameters=(("child_of", "5"),))
    hub.add(followed)
    found = hub.touched(batch(newsroom_articlepage=[1], wagtailcore_page=[1, 5]))
    assert found == [followed]


@pytest.mark.parametrize("about", [{}, {"parameters": (("child_of", "5"),)}, {"item": 1}])
def test_a_removed_query_leaves_nothing_behind(about: dict[str, Any]) -> None:
    hub, followed = Hub(), live_query(**about)
    hub.add(followed)
    hub.remove(followed)
    hub.remove(followed)
    assert len(hub) == 0
    assert hub.touched(batch(newsroom_articlepage=[1], wagtailcore_page=[1])) == []
    assert not hub._by_label


def test_a_thousand_followers_are_one_question() -> None:
    hub, followed = Hub(), live_query([1], *(Client() for _ in range(1000)))
    hub.add(followed)
    assert len(hub.touched(batch(newsroom_articlepage=[1]))) == 1
