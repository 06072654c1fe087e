"""The checker of the chaos runs, on journals of a few lines: an honest one, and spoilt ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.chaos import run
from tests.chaos.checker import LEEWAY, Subscription, check_resources
from tests.chaos.figures import Delivery, deliveries
from tests.chaos.history import Epoch, History, Operation
from tests.chaos.nemesis import faults, schedule
from tests.chaos.picture import picture
from tests.chaos.scopes import everything

WORLD = {
    f"notices:{key}": {
        "kind": "notice", "live": True, "restricted": None, "parent": None, "version": 0,
    }
    for key in (1, 2)
} | {
    "notices:3": {
        "kind": "notice", "live": True, "restricted": "password", "parent": None, "version": 0,
    }
}  # fmt: skip
Frames = list[dict[str, Any]]


def row(key: int, version: int) -> dict[str, Any]:
    return {"id": key, "text": f"v{version} notice"}


def frame(event: str, data: Any, position: int) -> dict[str, Any]:
    return {"type": "subscription", "event": event, "data": data, "cursor": f"{position}"}


def honest() -> Frames:
    """Notice 1 is written at 1 and 3, notice 2 at 2 and hidden at 4."""
    return [
        frame("init", [row(1, 0), row(2, 0)], 0),
        frame("update", [row(1, 10)], 1),
        frame("update", [row(2, 20)], 2),
        frame("update", [row(1, 30)], 3),
        frame("delete", [2], 4),
    ]


def history() -> History:
    effects = [
        {"object": "notices:1", "version": 10},
        {"object": "notices:2", "version": 20},
        {"object": "notices:1", "version": 30},
        {"object": "notices:2", "restricted": "login"},
    ]
    made = [
        Operation("edit", at, at + 0.5, "ok", True, [effect], [(f"uuid{at}", "", "")])
        for at, effect in enumerate(effects, start=1)
    ]
    return History(WORLD, made, [Epoch({at: f"uuid{at}" for at in range(5)})])


def checks(frames: Frames) -> set[str]:
    client = {"id": "one", "asker": "public"}
    opened = {f"{at}": (at, f"uuid{at}") for at in range(5)}
    follower = Subscription(client, everything("notices"), history(), opened.get)
    follower.take({"kind": "ask", "t": 0.5, "cursor": None})
    for at, one in enumerate(frames):
        follower.take({"kind": "frame", "t": 10.0 + at, "frame": one})
    follower.check_end({"notices:1": row(1, 30)}, 20.0)
    return {one.check for one in follower.violations}


def drop(frames: Frames) -> None:
    del frames[1]


def swap(frames: Frames) -> None:
    frames[1], frames[3] = frames[3], frames[1]


def leak(frames: Frames) -> None:
    frames.insert(2, frame("delete", [3], 1))


def phantom(frames: Frames) -> None:
    frames[2] = frame("update", [row(2, 19)], 2)


def stale_cursor(frames: Frames) -> None:
    frames[1]["cursor"] = "2"


def skip_revocation(frames: Frames) -> None:
    frames[4] = frame("update", [row(1, 30)], 4)


def no_base(frames: Frames) -> None:
    del frames[0]


def test_an_honest_journal_passes() -> None:
    assert checks(honest()) == set()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (drop, "I1"),
        (swap, "I3"),
        (leak, "I10"),
        (phantom, "I2"),
        (stale_cursor, "I1"),
        (skip_revocation, "I7"),
        (no_base, "I9"),
    ],
)
def test_a_spoilt_journal_is_found(spoil: Callable[[Frames], None], expected: str) -> None:
    frames = honest()
    spoil(frames)
    assert expected in checks(frames)


def test_who_asked_afresh_in_vain_may_come_back_with_the_cursor_from_before() -> None:
    opened = {"0": (0, "uuid0"), "1": (1, "uuid1")}
    follower = Subscription(
        {"id": "one", "asker": "public"}, everything("notices"), history(), opened.get
    )
    follower.take({"kind": "ask", "t": 0.5, "cursor": None})
    follower.take({"kind": "frame", "t": 0.6, "frame": honest()[0]})
    for cursor in (None, "0"):
        follower.take({"kind": "lost", "t": 1.9})
        follower.take({"kind": "ask", "t": 2.0, "cursor": cursor})
    resumed = {"type": "subscription", "event": "resume"}
    for told in (resumed, honest()[1]):
        follower.take({"kind": "frame", "t": 2.5, "frame": told})
    assert follower.violations == []


def test_what_the_application_is_told_twice_is_found() -> None:
    follower = Subscription(
        {"id": "one", "asker": "public"}, everything("notices"), history(), {}.get
    )
    for t in (1.0, 2.0):
        follower.take({"kind": "app", "t": t, "event": "update", "data": [row(1, 10)]})
    assert [one.check for one in follower.violations] == ["I6"]


def edit(at: float, **effect: Any) -> Operation:
    """An operation on notice 1 that was committed at a time; its entry is named after that."""
    effects = [{"object": "notices:1", **effect}]
    return Operation("edit", at - 0.5, at, "ok", True, effects, [(f"uuid{at:g}", "", "")])


def learned(history: History, *frames: tuple[float, Frames]) -> list[float]:
    """Return how long each change took that a member had to learn."""
    follower = Subscription(
        {"id": "one", "asker": "member"}, everything("notices"), history, {}.get
    )
    follower.take({"kind": "ask", "t": 0.1, "cursor": None})
    for t, told in frames:
        for one in told:
            follower.take({"kind": "frame", "t": t, "frame": one})
    return sorted(one.seconds for one in deliveries([follower], history))


def test_what_changes_nothing_for_an_asker_need_not_be_learned() -> None:
    made = [edit(1, version=10), edit(2, restricted="login"), edit(6, version=30)]
    log = {1: "uuid1", 2: "uuid2", 3: "uuid6"}
    assert learned(
        History(WORLD, made, [Epoch(log)]),
        (0.2, [frame("init", [row(1, 0), row(2, 0)], 0)]),
        (2.0, [frame("update", [row(1, 10)], 1)]),
        (9.0, [frame("update", [row(1, 30)], 3)]),
    ) == [1.0, 3.0]


def test_what_a_backup_undid_need_not_be_learned() -> None:
    made = [edit(1, version=10), edit(4, version=20), edit(6, version=30)]
    lives = [
        Epoch({1: "uuid1", 2: "uuid4"}),
        Epoch({1: "uuid1", 2: "uuid6"}, began=5.0, lost_from=3.0),
    ]
    assert learned(
        History(WORLD, made, lives),
        (0.2, [frame("init", [row(1, 0), row(2, 0)], 0)]),
        (2.0, [frame("update", [row(1, 10)], 1)]),
        (9.0, [frame("update", [row(1, 30)], 2)]),
    ) == [1.0, 3.0]


def test_servers_that_hold_what_they_held_before_pass() -> None:
    before = [dict.fromkeys(LEEWAY, 2), dict.fromkeys(LEEWAY, 3)]
    grown = [{name: held[name] + LEEWAY[name] for name in LEEWAY} for held in before]
    assert check_resources(before, before, 9.0) == check_resources(before, grown, 9.0) == []


@pytest.mark.parametrize("name", LEEWAY)
def test_what_a_server_still_holds_is_found(name: str) -> None:
    before = [dict.fromkeys(LEEWAY, 2), dict.fromkeys(LEEWAY, 2)]
    after = [before[0], {**before[1], name: 2 + LEEWAY[name] + 1}]
    [found] = check_resources(before, after, 9.0)
    assert (found.check, found.client) == ("I14", "server1")
    assert name in found.text


def test_a_schedule_is_its_seeds_and_lasts_as_long_as_asked() -> None:
    possible = faults(redis=True, database_server=True)
    strokes = schedule(7, 60, possible)
    assert strokes == schedule(7, 60, possible) != schedule(8, 60, possible)
    assert all(0 < stroke.at < 60 for stroke in strokes)


@pytest.mark.parametrize("database_server", [False, True])
def test_a_minute_has_a_restore_behind_a_frozen_server_on_every_database(
    database_server: bool,
) -> None:
    possible = faults(redis=database_server, database_server=database_server)
    strokes = schedule(1, 60, possible)
    at = {stroke.fault: stroke.at for stroke in strokes}
    assert at["back up"] < at["restore behind a frozen server"]


@pytest.mark.parametrize("plant", ["", "drop"])
def test_a_machine_that_lacks_a_program_is_told_so(
    plant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    assert run.main(["--plant", plant]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Skipped: ")
    assert "lacks node" in said
    monkeypatch.setenv("REQUIRE_ALL", "1")
    assert run.main(["--plant", plant]) == 1


def test_the_picture_shows_each_delivery_what_was_lost_and_the_name_of_each_fault() -> None:
    found = [
        Delivery("one", 101.0, 101.2),
        Delivery("one", 103.0, 113.0),
        Delivery("two", 103.0, None),
    ]
    struck = [
        {"fault": "cut clients", "began": 102.0, "t": 102.0},
        {"fault": "kill server", "began": 103.0, "t": 105.0},
    ]
    text = picture("a <run>", found, struck, 100.0)
    drawn = ElementTree.fromstring(text)  # noqa: S314 - our own
    by_class: dict[str | None, list[ElementTree.Element]] = {}
    for element in drawn.iter():
        by_class.setdefault(element.get("class"), []).append(element)
    assert [len(by_class[name][0].attrib["d"].split("M")) - 1 for name in ("dots", "lost")] == [
        2,
        1,
    ]
    assert [band[0].text for band in by_class["band"]] == ["cut clients", "kill server"]
    assert {"a <run>", "cut clients", "kill server"} <= set(drawn.itertext())
