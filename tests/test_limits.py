"""What one client may ask for, and what happens to one that asks for more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext
from django.test import AsyncClient, Client

from tests import newsroom
from tests.live import settled, sync
from tests.newsroom import Newsroom, publish
from tests.streams import OWN, Stream
from wagtail_live import limits, relay
from wagtail_live.events import Query
from wagtail_live.exceptions import InvalidQuery
from wagtail_live.limits import Pace, Places, Verdict, visitor
from wagtail_live.protocol import Subscribe, decode
from wagtail_live.representation import Representation, parse
from wagtail_live.session import Session
from wagtail_live.testing import Closed, LiveClient, Refused

ARTICLES = {"type": "newsroom.ArticlePage", "fields": "title", "order": "title"}
PING = {"type": "ping", "uid": "p"}


class TestPace:
    def verdicts(self, pace: Pace, count: int, now: float) -> list[Verdict]:
        return [pace.take(now) for _ in range(count)]

    def test_so_many_at_once_are_welcome_and_no_more(self) -> None:
        pace = Pace(burst=3, per_second=1, now=0)
        assert self.verdicts(pace, 4, now=0) == [Verdict.WELCOME] * 3 + [Verdict.TOO_OFTEN]

    def test_so_many_a_second_are_welcome_for_ever(self) -> None:
        pace = Pace(burst=3, per_second=2, now=0)
        assert {pace.take(now / 2) for now in range(1000)} == {Verdict.WELCOME}

    def test_who_is_quiet_for_long_gains_no_more_than_the_burst(self) -> None:
        pace = Pace(burst=3, per_second=1, now=0)
        assert self.verdicts(pace, 4, now=1e6)[-1] is Verdict.TOO_OFTEN

    def test_who_goes_on_all_the_same_has_had_enough_warning(self) -> None:
        pace = Pace(burst=3, per_second=1, now=0)
        assert self.verdicts(pace, 6, now=0)[3:] == [
            Verdict.TOO_OFTEN,
            Verdict.TOO_OFTEN,
            Verdict.ENOUGH,
        ]

    def test_who_waits_is_welcome_again(self) -> None:
        pace = Pace(burst=3, per_second=1, now=0)
        self.verdicts(pace, 5, now=0)
        assert pace.take(2) is Verdict.TOO_OFTEN
        assert pace.take(5) is Verdict.WELCOME

    def test_what_was_asked_for_does_not_count(self) -> None:
        pace = Pace(burst=1, per_second=1, now=0)
        for _ in range(10):
            assert pace.take(0) is Verdict.WELCOME
            pace.give_back()


class TestPlaces:
    def test_one_name_has_so_many_at_once_and_others_have_theirs(self) -> None:
        places = Places()
        with places.one("a", 1) as first, places.one("a", 1) as second, places.one("b", 1) as third:
            assert (first, second, third) == (True, False, True)

    def test_a_place_is_free_again_whatever_ended_it_and_nothing_is_left(self) -> None:
        places = Places()
        for _ in range(3):
            with pytest.raises(ValueError, match="ends it"), places.one("a", 1) as free:
                assert free
                raise ValueError("ends it")
        assert len(places) == 0

    def test_who_has_no_name_is_not_counted(self) -> None:
        places = Places()
        with places.one(None, 0) as free:
            assert free


class TestVisitor:
    @pytest.mark.parametrize(
        ("hops", "trusted", "found"),
        [
            (["8.8.8.8"], 0, "8.8.8.8"),
            (["1.1.1.1", "8.8.8.8"], 0, "8.8.8.8"),
            (["1.1.1.1", "8.8.8.8"], 1, "1.1.1.1"),
            (["9.9.9.9", " 1.1.1.1", "10.0.0.1"], 1, "1.1.1.1"),
            (["9.9.9.9", "1.1.1.1", "10.0.0.1"], 2, "9.9.9.9"),
            (["1.1.1.1"], 2, "1.1.1.1"),
            (["1.1.1.1:5123", "10.0.0.1"], 1, "1.1.1.1"),
            (["::ffff:8.8.8.8"], 0, "8.8.8.8"),
            (["2001:4860:4860:1:2:3:4:5"], 0, "2001:4860:4860:1::/64"),
        ],
    )
    def test_it_is_who_the_last_proxy_that_is_trusted_was_asked_by(
        self, hops: list[str], trusted: int, found: str
    ) -> None:
        assert visitor(hops, trusted) == found

    @pytest.mark.parametrize(
        "hop",
        ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "fd00::1", "::ffff:10.0.0.1", "unknown"],
    )
    def test_an_address_that_is_not_of_the_internet_is_nobody_s(self, hop: str) -> None:
        assert visitor([hop], 0) is None

    def test_who_comes_by_no_address_is_nobody(self) -> None:
        assert visitor([], 1) is None


def sign_in() -> dict[str, str]:
    browser = Client()
    browser.force_login(newsroom.add_user("member"))
    return {"sessionid": browser.cookies["sessionid"].value}


@pytest.mark.usefixtures("quiet_relay", "committed")
class TestRequiredIdentity:
    @pytest.fixture(autouse=True)
    def _required(self, settings: Any) -> None:
        settings.WAGTAIL_LIVE_REQUIRE_AUTH = True
        settings.WAGTAIL_LIVE_AUTH_SECONDS = 0.2

    async def test_the_public_may_follow_nothing_and_does_not_stay(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            refused = await client.subscribe("notices")
            assert refused["error"]["code"] == "INVALID_CREDENTIALS"
            with pytest.raises(Closed) as closed:
                await client.hear()
        assert closed.value.code == 4401

    async def test_who_says_nothing_does_not_stay(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            with pytest.raises(Closed) as closed:
                await client.hear()
        assert closed.value.code == 4401
        assert relay.current().sessions == 0

    async def test_a_stream_is_refused_by_its_status(self, news: Newsroom) -> None:
        async with Stream({"collection": "notices"}) as stream:
            await stream.until_complete()
        assert stream.status == 401

    async def test_who_is_signed_in_stays_whether_it_follows_or_not(
        self, news: Newsroom, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked = asyncio.Event()
        ask = Session._identified

        async def noted(self: Session) -> Any:
            try:
                return await ask(self)
            finally:
                looked.set()

        monkeypatch.setattr(Session, "_identified", noted)
        async with LiveClient(cookies=await sync(sign_in)) as client:
            async with asyncio.timeout(10):
                await looked.wait()
            assert (await client.subscribe("notices"))["event"] == "init"


FROM = (b"x-forwarded-for", b"8.8.8.8")


@pytest.mark.usefixtures("quiet_relay", "committed")
class TestConnections:
    """Behind one proxy that is trusted."""

    @pytest.fixture(autouse=True)
    def _few(self, settings: Any) -> None:
        settings.WAGTAIL_LIVE_TRUSTED_PROXIES = 1
        settings.WAGTAIL_LIVE_MAX_CONNECTIONS_PER_ADDRESS = 1

    async def test_one_more_socket_is_refused_and_others_are_not(self, news: Newsroom) -> None:
        async with LiveClient(headers=[FROM]):
            with pytest.raises(Refused):
                async with LiveClient(headers=[FROM]):
                    pass
            async with LiveClient(headers=[(FROM[0], b"1.1.1.1")]) as other:
                assert (await other.subscribe("notices"))["event"] == "init"
        async with LiveClient(headers=[FROM]) as again:
            assert (await again.subscribe("notices"))["event"] == "init"
        assert len(limits.addresses) == 0

    async def test_a_stream_and_a_request_for_changes_count_as_well(self, news: Newsroom) -> None:
        async with Stream({"collection": "notices"}, headers=[FROM]) as first:
            assert first.status == 200
            async with Stream({"collection": "notices"}, headers=[FROM]) as second:
                await second.until_complete()
            assert (second.status, second.headers["retry-after"]) == (429, "30")
            assert second.answer["error"]["code"] == "TOO_MANY_CONNECTIONS"
            async with ThreadSensitiveContext():
                answer = await AsyncClient().get(
                    "/live/changes/",
                    {"collection": "notices"},
                    headers={"x-forwarded-for": "8.8.8.8"},
                )
            assert (answer.status_code, answer["Retry-After"]) == (429, "30")
            assert answer.json()["error"]["code"] == "TOO_MANY_CONNECTIONS"
            with pytest.raises(Refused):
                async with LiveClient(headers=[FROM]):
                    pass
        assert len(limits.addresses) == 0

    async def test_one_more_of_a_user_is_told_and_closed(
        self, news: Newsroom, settings: Any
    ) -> None:
        settings.WAGTAIL_LIVE_MAX_CONNECTIONS_PER_USER = 1
        cookies = await sync(sign_in)
        async with LiveClient(cookies=cookies) as first, LiveClient() as public:
            for _ in range(2):
                assert (await first.subscribe("notices"))["event"] == "init"
            async with LiveClient(cookies=cookies) as second:
                refused = await second.subscribe("notices", uid="a")
                assert (refused["error"]["code"], refused["uid"]) == ("TOO_MANY_CONNECTIONS", "a")
                with pytest.raises(Closed) as closed:
                    await second.hear()
                assert closed.value.code == 4429
            cookie = (b"cookie", f"sessionid={cookies['sessionid']}".encode())
            async with Stream({"collection": "notices"}, headers=[OWN, cookie]) as stream:
                await stream.until_complete()
            assert stream.status == 429
            assert (await public.subscribe("notices"))["event"] == "init"
        async with LiveClient(cookies=cookies) as again:
            assert (await again.subscribe("notices"))["event"] == "init"
        assert len(limits.users) == 0

    async def test_without_a_trusted_proxy_nobody_can_say_that_it_is_somebody_else(
        self, news: Newsroom, settings: Any
    ) -> None:
        settings.WAGTAIL_LIVE_TRUSTED_PROXIES = 0
        async with LiveClient(headers=[FROM]), LiveClient(headers=[FROM]) as second:
            assert (await second.subscribe("notices"))["event"] == "init"


@pytest.mark.usefixtures("quiet_relay", "committed")
class TestMessages:
    @pytest.fixture(autouse=True)
    def _slow(self, settings: Any) -> None:
        settings.WAGTAIL_LIVE_MAX_SUBSCRIPTIONS = 2
        settings.WAGTAIL_LIVE_MESSAGES_PER_SECOND = 0

    async def test_too_many_are_answered_with_an_error_each_and_then_closed(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            for _ in range(8):
                client.say(PING)
            answers = [await client.hear() for _ in range(7)]
            assert [answer["type"] for answer in answers[:4]] == ["pong"] * 4
            assert {answer["error"]["code"] for answer in answers[4:]} == {"RATE_LIMITED"}
            assert {(answer["type"], answer["uid"]) for answer in answers[4:]} == {("server", "p")}
            with pytest.raises(Closed) as closed:
                await client.hear()
        assert (closed.value.code, closed.value.reason) == (4429, "TOO_MANY")

    async def test_what_is_too_much_is_not_done_and_what_was_done_goes_on(
        self, news: Newsroom
    ) -> None:
        async with LiveClient() as client:
            await client.subscribe("pages", ARTICLES, uid="a")
            for _ in range(3):
                client.say(PING)
                await client.hear()
            refused = await client.subscribe("pages", ARTICLES, uid="b")
            assert (refused["error"]["code"], refused["uid"]) == ("RATE_LIMITED", "b")
            await sync(lambda: publish(news.tram, title="Told"))
            await relay.current().caught_up()
            frame = await client.hear()
            assert (frame["event"], frame["uid"]) == ("update", "a")

    async def test_the_others_hear_nothing_of_a_flood(self, news: Newsroom) -> None:
        async with LiveClient() as flood, LiveClient() as other:
            await other.subscribe("pages", ARTICLES)
            await flood.subscribe("pages", ARTICLES)
            for _ in range(1000):
                flood.say(PING)
            with pytest.raises(Closed):
                while True:
                    await flood.hear()
            await sync(lambda: publish(news.tram, title="Told"))
            [frame] = await settled(other)
            assert frame["event"] == "update"
        assert relay.current().sessions == 0

    async def test_answering_what_the_server_asks_is_free(
        self, news: Newsroom, settings: Any
    ) -> None:
        settings.WAGTAIL_LIVE_HEARTBEAT_SECONDS = 0.01
        async with LiveClient(answer_pings=False) as client:
            for _ in range(10):
                assert await client.hear() == {"type": "ping"}
                client.say({"type": "pong"})

    async def test_answering_what_nobody_asked_is_not(self, news: Newsroom) -> None:
        async with LiveClient() as client:
            for _ in range(8):
                client.say({"type": "pong"})
            with pytest.raises(Closed) as closed:
                while (await client.hear())["error"]["code"] == "RATE_LIMITED":
                    pass
        assert closed.value.code == 4429


@pytest.mark.usefixtures("quiet_relay", "committed")
async def test_the_same_subscription_many_times_costs_one_evaluation_of_a_change(
    news: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[Query] = []
    answer = Representation.answer

    def noted(self: Representation, *arguments: Any, **more: Any) -> Any:
        evaluated.append(self.query)
        return answer(self, *arguments, **more)

    monkeypatch.setattr(Representation, "answer", noted)
    async with LiveClient() as client:
        for uid in range(20):
            await client.subscribe("pages", ARTICLES, uid=uid)
        assert len(relay.current().hub) == 1
        evaluated.clear()
        await sync(lambda: publish(news.tram, title="Told"))
        frames = await settled(client)
        assert {frame["uid"] for frame in frames} == {str(uid) for uid in range(20)}
        assert len(evaluated) * 20 == len(frames)


@pytest.mark.usefixtures("quiet_relay", "committed")
async def test_too_large_a_message_closes_though_it_is_no_text(settings: Any) -> None:
    settings.WAGTAIL_LIVE_MAX_MESSAGE_BYTES = 1024
    async with LiveClient() as client:
        client.say(b"x" * 1024)
        assert (await client.hear())["error"]["code"] == "INVALID_PAYLOAD"
        client.say(b"x" * 1025)
        with pytest.raises(Closed) as closed:
            await client.hear()
    assert closed.value.code == 1009


class TestQueries:
    @pytest.mark.parametrize(
        "query",
        [
            {f"a{number}": "1" for number in range(30)},
            {"title": "x" * 8187},
            {"fields": "a(b(c(d(e(f)))))"},
            {"fields": "a(b),c(d),e(f),g(h),i(j),k(l)"},
            {"tags": ["x", 1, True]},
            "title=" + "x" * 8187,
        ],
        ids=lambda query: str(query)[:30],
    )
    def test_so_much_may_be_asked(self, query: Any) -> None:
        assert parse("pages", query, None).collection == "pages"

    @pytest.mark.parametrize(
        "query",
        [
            {f"a{number}": "1" for number in range(31)},
            {"title": "x" * 8188},
            {"x" * 8188: "title"},
            {"fields": "a(b(c(d(e(f(g))))))"},
            {"fields": "a(" * 4000},
            {"tags": [["x"]]},
            {"tags": {"x": "y"}},
            "title=" + "x" * 8188,
            "&".join(f"a{number}=1" for number in range(31)),
            "&".join(f"a{number}" for number in range(5000)),
            "a=1&" * 5000,
        ],
        ids=lambda query: str(query)[:30],
    )
    def test_what_is_more_is_refused_with_a_reason(self, query: Any) -> None:
        with pytest.raises(InvalidQuery) as refused:
            parse("pages", query, None)
        assert refused.value.message != InvalidQuery().message

    def test_what_is_as_deep_as_a_message_can_be_is_refused_too(self) -> None:
        text = '{"type":"subscribe","collection":"pages","query":{"tags":%s}}'
        for depth in (2, 100, 500, 900):
            message = decode(text % ("[" * depth + "]" * depth))
            assert isinstance(message, Subscribe)
            with pytest.raises(InvalidQuery):
                parse(message.collection, message.query, None)
