"""The event stream: the same session, the same frames, on a response that goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.test import Client
from wagtail.models import PageViewRestriction

from example_project.newsroom.models import Notice
from tests import newsroom
from tests.live import caught_up, settled, sync
from tests.newsroom import Newsroom, publish
from tests.streams import OWN, Stream
from wagtail_live import protocol, relay, servers, sse
from wagtail_live.exceptions import ServiceUnavailable
from wagtail_live.testing import LiveClient

pytestmark = pytest.mark.usefixtures("quiet_relay", "committed")

QUERY = "type=newsroom.ArticlePage&fields=title&order=title"
ARTICLES = {"collection": "pages", "query": QUERY}
SAME_ORIGIN = (b"sec-fetch-site", b"same-origin")


class TestFollowing:
    async def test_the_frames_are_byte_for_byte_those_of_the_socket(self, news: Newsroom) -> None:
        def change() -> None:
            publish(news.tram, title="Tram\r\nreturns \u2028 \u0085 é")
            newsroom.add_article(news.arts, "Ferry")
            news.bells.unpublish()

        async with LiveClient() as client, Stream({**ARTICLES, "uid": "a"}) as stream:
            frames = [await client.subscribe("pages", QUERY, uid="a")]
            await stream.hear()
            stream._read = 0
            await sync(change)
            frames += await settled(client)
            told = [await stream.hear() for _ in frames]
        assert [json.loads(data) for _, data in told][1:] == frames[1:]
        assert {frame["event"] for frame in frames[1:]} == {"delete", "create", "update"}
        for cursor, data in told:
            assert cursor == json.loads(data).get("cursor", "")
            assert "\r" not in data

    async def test_it_begins_with_a_random_retry_and_a_sign_of_life(self, news: Newsroom) -> None:
        async with Stream(ARTICLES) as stream:
            retry = (await stream.block()).removeprefix("retry: ")
            assert 0 <= int(retry) <= 1000 * protocol.reconnect_seconds(1)
            assert await stream.block() == ": ping"
            assert (await stream.frame())["event"] == "init"
            assert stream.status == 200
            assert stream.headers == {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache, no-transform",
                "x-accel-buffering": "no",
                "x-content-type-options": "nosniff",
                "vary": "Origin",
            }

    async def test_one_request_may_follow_several_things(self, news: Newsroom) -> None:
        asked = [
            {"type": "subscribe", "collection": "pages", "query": QUERY, "uid": "a"},
            {"type": "subscribe", "collection": "notices", "uid": 2},
            {"type": "subscribe", "collection": "nothing", "uid": "c"},
            {"type": "dance", "uid": "d"},
        ]
        async with Stream(body=asked, headers=[OWN]) as stream:
            frames = {frame["uid"]: frame for frame in [await stream.frame() for _ in asked]}
            assert frames["a"]["event"] == frames["2"]["event"] == "init"
            assert frames["c"]["error"]["code"] == "FORBIDDEN"
            assert frames["d"]["error"]["code"] == "UNKNOWN_TYPE"
            await sync(lambda: Notice.objects.create(text="Fog"))
            told = await stream.frame()
            assert (told["uid"], told["event"]) == ("2", "create")
            await sync(lambda: publish(news.tram, title="Late"))
            told = await stream.frame()
            assert (told["uid"], told["event"]) == ("a", "update")

    async def test_an_item_and_an_event_can_be_asked_for(self, news: Newsroom) -> None:
        one = {"collection": "pages", "item": news.tram.pk, "event": "delete", "uid": "x"}
        async with Stream(one) as stream:
            init = await stream.frame()
            assert (init["event"], init["uid"], "data" in init) == ("init", "x", False)
            await sync(lambda: publish(news.tram, title="Unheard"))
            await sync(lambda: news.tram.unpublish())
            assert (await stream.frame())["data"] == [news.tram.pk]

    async def test_comments_keep_a_quiet_stream_alive(self, news: Newsroom, settings: Any) -> None:
        settings.WAGTAIL_LIVE_HEARTBEAT_SECONDS = 0.01
        asked = [{"type": "subscribe", "collection": "notices"}]
        async with Stream(body=asked, headers=[OWN]) as stream:
            while [await stream.block() for _ in range(3)] != [": ping"] * 3:
                pass
            assert not stream.complete

    async def test_a_frame_is_written_out_once_for_all_streams(self, news: Newsroom) -> None:
        streams = [Stream(ARTICLES) for _ in range(5)]
        async with streams[0], streams[1], streams[2], streams[3], streams[4]:
            for stream in streams:
                await stream.frame()
            before = sse._event.cache_info().misses
            await sync(lambda: publish(news.tram, title="Late"))
            told = {await stream.hear() for stream in streams}
            assert len(told) == 1
            assert sse._event.cache_info().misses == before + 1


class TestResuming:
    async def cursor(self, parameters: Any = ARTICLES) -> str:
        async with Stream(parameters) as stream:
            return (await stream.hear())[0]

    async def test_the_last_event_id_brings_the_whole_gap(self, news: Newsroom) -> None:
        cursor = await self.cursor()

        def meanwhile() -> None:
            publish(news.tram, title="Tram returns")
            news.bells.unpublish()
            newsroom.add_article(news.arts, "Ferry")

        await sync(meanwhile)
        await caught_up()  # what the relay has not read comes later, as it does to everybody
        header = (b"last-event-id", cursor.encode())
        async with Stream({**ARTICLES, "cursor": "older"}, headers=[header]) as stream:
            told = [await stream.hear() for _ in range(4)]
            events = [json.loads(data)["event"] for _, data in told]
            assert events == ["resume", "delete", "create", "update"]
            assert [bool(cursor) for cursor, _ in told] == [False, False, False, True]

    async def test_a_cursor_in_the_address_does_it_too(self, news: Newsroom) -> None:
        cursor = await self.cursor()
        async with Stream({**ARTICLES, "cursor": cursor}) as stream:
            told, data = await stream.hear()
            assert (json.loads(data)["event"], bool(told)) == ("resume", True)

    @pytest.mark.parametrize("header", [b"forged", b"\xe9" * 40, b"A" * 92])
    async def test_a_bad_id_is_a_fresh_base(self, news: Newsroom, header: bytes) -> None:
        async with Stream(ARTICLES, headers=[(b"last-event-id", header)]) as stream:
            assert (await stream.frame())["reset"] == "unknown"

    async def test_no_id_and_an_empty_cursor_are_a_first_visit(self, news: Newsroom) -> None:
        headers = [(b"last-event-id", b"")]
        async with Stream({**ARTICLES, "cursor": ""}, headers=headers) as stream:
            init = await stream.frame()
            assert (init["event"], "reset" in init) == ("init", False)

    async def test_a_second_break_in_the_gap_loses_nothing(self, news: Newsroom) -> None:
        cursor = await self.cursor()

        def meanwhile() -> None:
            publish(news.tram, title="Tram returns")
            news.bells.unpublish()

        await sync(meanwhile)
        await caught_up()
        headers = [(b"last-event-id", cursor.encode())]
        for _ in range(3):  # it has no id until the gap is complete, so the same one comes again
            async with Stream(ARTICLES, headers=headers) as stream:
                told = [await stream.hear() for _ in range(2)]
                assert [bool(cursor) for cursor, _ in told] == [False, False]
        async with Stream(ARTICLES, headers=headers) as stream:
            told = [await stream.frame() for _ in range(3)]
            assert [frame["event"] for frame in told] == ["resume", "delete", "update"]


BAD_ADDRESSES = [
    ("", 400, "INVALID_PAYLOAD"),
    ("collection=pages&type=newsroom.ArticlePage", 400, "INVALID_PAYLOAD"),
    ("collection=pages&collection=notices", 400, "INVALID_PAYLOAD"),
    ("collection=pages&event=publish", 400, "INVALID_PAYLOAD"),
    ("collection=pages&cursor=" + "c" * 501, 400, "INVALID_PAYLOAD"),
    ("&".join(f"p{number}=1" for number in range(30)), 400, "INVALID_PAYLOAD"),
    ("collection=pages&query=" + "x" * 70_000, 413, "INVALID_PAYLOAD"),
    ("collection=pages&query=search%3Dx", 400, "INVALID_QUERY"),
    ("collection=pages&query=nonsense%3D1", 400, "INVALID_QUERY"),
    ("collection=nothing", 403, "FORBIDDEN"),
    ("collection=pages&item=424242", 403, "FORBIDDEN"),
    ("collection=pages&item=", 403, "FORBIDDEN"),
]
BAD_BODIES = [
    (b"", 400),
    (b"{}", 400),
    (b"nonsense", 400),
    (b"[1", 400),
    (b"[" * 60_000, 400),
    (b'["\xff"]', 400),
    (b"[" + b"1," * 200 + b"1]", 400),
    (b'["' + b"x" * 65_536 + b'"]', 413),
]
FOREIGN = [
    [(b"origin", b"http://evil.example")],
    [(b"origin", b"null")],
    [(b"origin", b"https://localhost")],
    [(b"origin", b"http://localhost:81")],
    [(b"origin", b"http://localhost.evil.example")],
    [(b"origin", b"http://[")],
    [OWN, OWN],
    [(b"origin", b"")],
]


class TestRefusals:
    async def test_what_cannot_be_followed_is_no_stream(self, news: Newsroom) -> None:
        for address, status, code in BAD_ADDRESSES:
            async with Stream(address) as stream:
                await stream.until_complete()
                answer = stream.answer
                assert (stream.status, answer["error"]["code"]) == (status, code), address
                assert (answer["type"], answer["status"]) == ("subscribe", "error")
                assert stream.headers["content-type"] == "application/json"
                assert stream.headers["cache-control"] == "no-store"

    async def test_a_body_that_is_no_list_of_messages_is_no_stream(self) -> None:
        for body, status in BAD_BODIES:
            async with Stream(body=body, headers=[OWN]) as stream:
                await stream.until_complete()
                assert stream.status == status, body
                assert stream.answer["error"]["code"] == "INVALID_PAYLOAD"
                assert stream.answer["type"] == "server"

    async def test_a_body_that_does_not_come_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sse, "BODY_SECONDS", 0.01)
        stream = Stream(body=[], headers=[OWN])
        stream.more_body = True
        async with stream:
            await stream.until_complete()
            assert stream.status == 408

    async def test_other_methods_are_refused(self) -> None:
        for method in ("PUT", "PATCH", "DELETE", "TRACE"):
            async with Stream(ARTICLES, method=method) as stream:
                await stream.until_complete()
                assert (stream.status, stream.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")

    async def test_head_is_the_headers_of_the_stream_and_opens_none(self) -> None:
        async with Stream(ARTICLES, method="HEAD") as stream:
            await stream.until_complete()
            assert (stream.status, stream.raw) == (200, b"")
            assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert relay.current().sessions == 0

    async def test_a_preflight_is_answered(self) -> None:
        headers = [(b"origin", b"http://localhost:3000")]
        async with Stream(method="OPTIONS", headers=headers) as stream:
            await stream.until_complete()
            assert (stream.status, stream.raw) == (204, b"")
            assert stream.headers["access-control-allow-origin"] == "http://localhost:3000"
            assert "POST" in stream.headers["access-control-allow-methods"]
            assert "Last-Event-ID" in stream.headers["access-control-allow-headers"]

    @pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT"])
    async def test_a_page_of_a_foreign_origin_is_refused(self, method: str) -> None:
        for headers in FOREIGN:
            async with Stream(ARTICLES, method=method, headers=headers) as stream:
                await stream.until_complete()
                assert stream.status == 403, headers
                assert method == "HEAD" or stream.answer["type"] == "server"
                assert "access-control-allow-origin" not in stream.headers

    async def test_a_host_that_is_not_ours_is_refused(self) -> None:
        for host in ("evil.example", "", "local host"):
            async with Stream(ARTICLES, host=host) as stream:
                await stream.until_complete()
                assert stream.status == 403

    async def test_a_problem_that_may_pass_is_a_stream_that_ends(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def unavailable(*arguments: object) -> None:
            raise ServiceUnavailable

        monkeypatch.setattr(relay.Relay, "follow", unavailable)
        async with Stream(ARTICLES) as stream:  # a browser comes back to a stream, not to a 503
            assert (await stream.frame())["error"]["code"] == "SERVICE_UNAVAILABLE"
            await stream.until_complete()
            assert stream.status == 200

    async def test_a_slow_answer_does_not_hold_up_the_headers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sse, "ANSWER_SECONDS", 0.0)
        async with Stream({"collection": "nothing"}) as stream:
            assert stream.status == 200
            assert (await stream.frame())["error"]["code"] == "FORBIDDEN"
            await stream.until_complete()


class TestAskers:
    @pytest.fixture
    async def member(self, news: Newsroom) -> tuple[bytes, bytes]:
        def arrange() -> Client:
            PageViewRestriction.objects.create(page=news.town, restriction_type="login")
            browser = Client()
            browser.force_login(newsroom.add_user("member"))
            return browser

        browser = await sync(arrange)
        return b"cookie", f"sessionid={browser.cookies['sessionid'].value}".encode()

    @pytest.mark.parametrize(
        ("said", "titles"),
        [
            ([OWN], {"Bells", "Opera", "Tram"}),
            ([SAME_ORIGIN], {"Bells", "Opera", "Tram"}),
            ([(b"origin", b"http://localhost:3000")], {"Bells", "Opera", "Tram"}),
            ([], {"Opera"}),
            ([(b"sec-fetch-site", b"same-site")], {"Opera"}),
            ([(b"sec-fetch-site", b"cross-site")], {"Opera"}),
            ([(b"sec-fetch-site", b"none")], {"Opera"}),
        ],
    )
    async def test_a_cookie_counts_when_a_page_of_ours_sends_it(
        self, member: tuple[bytes, bytes], said: Any, titles: set[str]
    ) -> None:
        async with Stream(ARTICLES, headers=[member, *said]) as stream:
            assert {row["title"] for row in (await stream.frame())["data"]} == titles

    async def test_an_allowed_page_may_read_what_it_gets(self, news: Newsroom) -> None:
        origin = b"http://localhost:3000"
        for parameters in (ARTICLES, {"collection": "nothing"}):
            async with Stream(parameters, headers=[(b"origin", origin)]) as stream:
                await stream._until(lambda stream=stream: stream.raw)
                assert stream.headers["access-control-allow-origin"] == origin.decode()
                assert stream.headers["access-control-allow-credentials"] == "true"
                assert stream.headers["vary"] == "Origin"


class TestEnds:
    async def test_nothing_is_left_of_clients_that_have_gone(self, news: Newsroom) -> None:
        async with Stream(ARTICLES) as stream:  # the relay and the pool are there from now on
            await stream.frame()
            await caught_up()
            before = len(asyncio.all_tasks())
            for leaves_early in (False, True):
                streams = [Stream(ARTICLES) for _ in range(10)]
                for one in streams:
                    await one.__aenter__()
                    if not leaves_early:
                        await one.frame()
                for one in streams:
                    await one.__aexit__()
                await asyncio.sleep(0)
            await caught_up()
            assert relay.current().sessions == 1
            assert sum(len(live_query) for live_query in relay.current().hub) == 1
            assert len(asyncio.all_tasks()) == before

    async def test_a_server_that_cancels_us_is_obeyed(self, news: Newsroom) -> None:
        stream = Stream(ARTICLES)
        await stream.__aenter__()
        stream.application.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream.application
        assert relay.current().sessions == 0

    async def test_a_client_that_leaves_amid_its_body_is_no_error(self) -> None:
        stream = Stream(body=[], headers=[OWN])
        stream.more_body = True
        stream.start()
        stream.leave()
        await stream.application
        assert stream.status == 0

    @pytest.mark.parametrize(("http_version", "drops"), [("1.1", 1), ("2", 0)])
    async def test_a_client_that_does_not_read_is_left_and_the_others_hear_all(
        self,
        http_version: str,
        drops: int,
        news: Newsroom,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        settings.WAGTAIL_LIVE_MAX_BUFFER_BYTES = 2000
        monkeypatch.setattr(sse, "CLOSE_SECONDS", 0.01)
        monkeypatch.setattr(sse, "LIFE", (1e6, 1e6))
        dropped: list[Any] = []
        monkeypatch.setattr(servers, "abort", dropped.append)
        stuck = Stream(ARTICLES)
        stuck.scope["http_version"] = http_version
        async with stuck, Stream(ARTICLES) as other:
            cursor = (await stuck.hear())[0]
            await other.frame()
            stuck.reads.clear()
            for number in range(20):
                await sync(lambda number=number: publish(news.tram, title=f"Tram {number}"))
                assert (await other.frame())["data"][0]["title"] == f"Tram {number}"
            await stuck.application
            assert not stuck.complete
            assert len(dropped) == drops, "in HTTP/2 the connection serves others as well"
        async with Stream({**ARTICLES, "cursor": cursor}) as again:
            assert [(await again.frame())["event"] for _ in range(2)] == ["resume", "update"]

    async def test_a_stream_ends_after_much_and_goes_on_where_it_was(
        self, news: Newsroom, settings: Any
    ) -> None:
        settings.WAGTAIL_LIVE_MAX_BUFFER_BYTES = 200
        cursor, heard, title = "", [], ""
        for number in range(3):
            async with Stream({**ARTICLES, "cursor": cursor}) as stream:
                while not stream.complete:
                    assert len(stream.raw) < 8 * 200 + 2000, "it goes on and on"
                    title = f"Tram {number}, {len(stream.raw)} bytes on"
                    await sync(lambda title=title: publish(news.tram, title=title))
                    await caught_up()
                assert stream.lines[-1] == "retry: 10"
                told = [await stream.hear() for _ in stream.lines if "data: " in _]
                cursor = told[-1][0]
                heard += [json.loads(data) for _, data in told]
        async with Stream({**ARTICLES, "cursor": cursor}) as stream:
            heard += [await stream.frame(), *stream.unread()]
        titles = [row["title"] for frame in heard for row in frame.get("data", [])]
        assert title in titles, "the last one came before the end or after it"
        assert [frame["event"] for frame in heard].count("init") == 1

    async def test_a_quiet_stream_ends_after_a_while_and_goes_on_where_it_was(
        self, news: Newsroom, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.WAGTAIL_LIVE_HEARTBEAT_SECONDS = 0.01
        monkeypatch.setattr(sse, "ANSWER_SECONDS", 0.01)
        monkeypatch.setattr(sse, "LIFE_HEARTBEATS", (30, 30))
        async with Stream(ARTICLES) as stream:
            cursor = (await stream.hear())[0]
            await stream.until_complete()
        assert stream.raw.decode().count(": ping") == 1 + 30
        assert stream.lines[-1] == "retry: 10"
        async with Stream({**ARTICLES, "cursor": cursor}) as stream:
            assert (await stream.frame())["event"] == "resume"

    async def test_a_subscription_that_ends_on_our_side_ends_the_stream(
        self, news: Newsroom
    ) -> None:
        async with Stream(ARTICLES) as stream:
            await stream.frame()
            [live_query] = relay.current().hub
            live_query.end(ServiceUnavailable())
            assert (await stream.frame())["type"] == "subscription"
            await stream.until_complete()

    async def test_hanging_up_ends_it_with_a_whole_response(self, news: Newsroom) -> None:
        stream = Stream(ARTICLES)
        talking: list[Any] = []
        talk = sse._Stream.talk

        async def noted(self: Any, *arguments: Any) -> None:
            talking.append(self)
            await talk(self, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sse._Stream, "talk", noted)
            async with stream:
                await stream.frame()
                talking[0].hang_up(protocol.CloseCode.SERVICE_RESTART)
                await stream.until_complete()
                await stream.application
