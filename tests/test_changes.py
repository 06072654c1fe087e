"""The change feed: the frames since a cursor, by a plain request."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from typing import Any
from urllib.parse import urlencode

import drf_spectacular.openapi
import jsonschema
import pytest
from asgiref.sync import ThreadSensitiveContext
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.test import AsyncClient, Client
from django.test.client import RequestFactory
from django.urls import path, reverse
from drf_spectacular.generators import SchemaGenerator as Spectacular
from drf_spectacular.validation import validate_schema
from rest_framework.schemas.openapi import SchemaGenerator
from wagtail.models import PageViewRestriction

from tests import newsroom
from tests.live import sync
from tests.newsroom import Newsroom, publish
from wagtail_live import bell, changes, relay
from wagtail_live.changes import Changes
from wagtail_live.events import Snapshot
from wagtail_live.exceptions import ServiceUnavailable
from wagtail_live.openapi import operation
from wagtail_live.protocol import CloseCode, Subscribe
from wagtail_live.representation import Representation
from wagtail_live.session import Session
from wagtail_live.testing import LiveClient

pytestmark = pytest.mark.usefixtures("quiet_relay", "committed")

QUERY = "type=newsroom.ArticlePage&fields=title&order=title"
ARTICLES = {"collection": "pages", "query": QUERY}


async def ask(parameters: dict[str, Any], **headers: str) -> Any:
    """Return the answer to a GET, under ASGI."""
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    # As the ASGI handler does it: a request that waits has a thread of its own, if it needs one.
    async with ThreadSensitiveContext():
        return await AsyncClient().get("/live/changes/", parameters, headers=said)


def events(answer: Any) -> list[str]:
    return [frame["event"] for frame in answer.json()["frames"]]


def meanwhile(news: Newsroom) -> None:
    publish(news.tram, title="Tram returns")
    news.bells.unpublish()
    newsroom.add_article(news.arts, "Ferry")


class TestPages:
    async def test_without_a_cursor_it_is_the_base(self, news: Newsroom) -> None:
        answer = await ask({**ARTICLES, "uid": "a"})
        [init] = answer.json()["frames"]
        assert (init["event"], init["uid"]) == ("init", "a")
        assert [row["title"] for row in init["data"]] == ["Bells", "Opera", "Tram"]
        assert answer.json()["cursor"] == init["cursor"]

    async def test_with_a_cursor_it_is_what_the_socket_would_say(self, news: Newsroom) -> None:
        cursor = (await ask(ARTICLES)).json()["cursor"]
        await sync(lambda: meanwhile(news))
        answer = await ask({**ARTICLES, "cursor": cursor})
        frames = answer.json()["frames"]
        assert events(answer)[:4] == ["resume", "delete", "create", "update"]
        async with LiveClient() as client:
            told = [await client.subscribe("pages", QUERY, cursor=cursor)]
            told += [await client.hear() for _ in range(3)]
        for frame in [*frames, *told]:
            frame.pop("cursor", None)
        assert frames[:4] == told

    async def test_the_next_cursor_has_all_of_it(self, news: Newsroom) -> None:
        cursor = (await ask(ARTICLES)).json()["cursor"]
        await sync(lambda: meanwhile(news))
        cursor = (await ask({**ARTICLES, "cursor": cursor})).json()["cursor"]
        again = await ask({**ARTICLES, "cursor": cursor})
        assert events(again) == ["resume"]
        assert again.json()["cursor"]

    async def test_a_bad_cursor_is_a_fresh_base(self, news: Newsroom) -> None:
        [frame] = (await ask({**ARTICLES, "cursor": "forged"})).json()["frames"]
        assert (frame["event"], frame["reset"]) == ("init", "unknown")
        [frame] = (await ask({**ARTICLES, "cursor": ""})).json()["frames"]
        assert "reset" not in frame

    async def test_it_is_never_kept_by_a_cache(self, news: Newsroom) -> None:
        for parameters in (ARTICLES, {"collection": "nothing"}):
            answer = await ask(parameters)
            assert answer["cache-control"] == "no-store"
            assert answer["content-type"] == "application/json"
            assert answer["x-content-type-options"] == "nosniff"

    async def test_nothing_stays_of_a_request(self, news: Newsroom) -> None:
        await ask(ARTICLES)
        before = len(asyncio.all_tasks())
        for _ in range(3):
            await ask(ARTICLES)
        assert relay.current().sessions == 0
        assert sum(len(live_query) for live_query in relay.current().hub) == 0
        assert len(asyncio.all_tasks()) == before


class TestWaiting:
    async def asked(self, **more: Any) -> asyncio.Task[Any]:
        """Return a request that waits."""
        cursor = (await ask(ARTICLES)).json()["cursor"]
        request = asyncio.create_task(ask({**ARTICLES, "cursor": cursor, "wait": 60, **more}))
        async with asyncio.timeout(10):
            while not (changes._waiting and relay.current().sessions):
                await asyncio.sleep(0.001)
            while not sum(len(live_query) for live_query in relay.current().hub):
                await asyncio.sleep(0.001)
        return request

    async def test_it_is_answered_by_the_next_change(self, news: Newsroom) -> None:
        request = await self.asked()
        assert not request.done()
        await sync(lambda: publish(news.tram, title="Tram returns"))
        answer = await request
        assert events(answer) == ["resume", "update"]
        assert answer.json()["cursor"] == answer.json()["frames"][1]["cursor"]
        assert changes._waiting == 0

    async def test_what_was_missed_is_not_waited_with(self, news: Newsroom) -> None:
        cursor = (await ask(ARTICLES)).json()["cursor"]
        await sync(lambda: publish(news.tram, title="Tram returns"))
        answer = await ask({**ARTICLES, "cursor": cursor, "wait": 60})
        assert events(answer)[:2] == ["resume", "update"]

    async def test_after_its_time_it_is_answered_with_nothing(self, news: Newsroom) -> None:
        cursor = (await ask(ARTICLES)).json()["cursor"]
        answer = await ask({**ARTICLES, "cursor": cursor, "wait": 0.01})
        assert events(answer) == ["resume"]
        assert "retry-after" not in answer

    async def test_one_too_many_is_answered_at_once_and_told_when_to_come_again(
        self, news: Newsroom, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(changes, "WAITING_LIMIT", 1)
        waits = await self.asked()
        cursor = (await ask(ARTICLES)).json()["cursor"]
        answer = await ask({**ARTICLES, "cursor": cursor, "wait": 60})
        assert (events(answer), answer["retry-after"]) == (["resume"], "5")
        assert not waits.done()
        await sync(lambda: publish(news.tram, title="Tram returns"))
        await waits
        answer = await ask({**ARTICLES, "cursor": cursor, "wait": 0.01})
        assert "retry-after" not in answer

    async def test_a_client_that_leaves_frees_its_place(self, news: Newsroom) -> None:
        request = await self.asked()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert changes._waiting == 0
        assert relay.current().sessions == 0

    async def test_hanging_up_answers_at_once(
        self, news: Newsroom, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sessions: list[Session] = []
        receive = Session.receive

        def noted(self: Session, text: str | None) -> None:
            sessions.append(self)
            receive(self, text)

        monkeypatch.setattr(Session, "receive", noted)
        request = await self.asked()
        sessions[-1]._hang_up(CloseCode.SERVICE_RESTART)
        assert events(await request) == ["resume"]


BAD: list[tuple[dict[str, Any] | str, int, str]] = [
    ({}, 400, "INVALID_PAYLOAD"),
    ({"collection": "pages", "type": "newsroom.ArticlePage"}, 400, "INVALID_PAYLOAD"),
    ("collection=pages&collection=notices", 400, "INVALID_PAYLOAD"),
    ({**ARTICLES, "event": "publish"}, 400, "INVALID_PAYLOAD"),
    ({**ARTICLES, "cursor": "c" * 501}, 400, "INVALID_PAYLOAD"),
    ("&".join(f"p{number}=1" for number in range(30)), 400, "INVALID_PAYLOAD"),
    ({"collection": "pages", "query": "x" * 70_000}, 400, "INVALID_PAYLOAD"),
    ({"collection": "pages", "query": "search=x"}, 400, "INVALID_QUERY"),
    ({"collection": "pages", "query": "nonsense=1"}, 400, "INVALID_QUERY"),
    ({"collection": "nothing"}, 403, "FORBIDDEN"),
    ({"collection": "pages", "item": 424242}, 403, "FORBIDDEN"),
    *[
        ({**ARTICLES, "wait": wait}, 400, "INVALID_PAYLOAD")
        for wait in ("", "x", "-1", "60.1", "nan", "inf", "1e9")
    ],
]


class TestRefusals:
    async def test_every_bad_address_is_answered(self, news: Newsroom) -> None:
        for parameters, status, code in BAD:
            query = parameters if isinstance(parameters, str) else urlencode(parameters)
            answer = await AsyncClient().get(f"/live/changes/?{query}")
            said = answer.json()
            assert (answer.status_code, said["error"]["code"]) == (status, code), parameters
            assert (said["type"], said["status"]) == ("subscribe", "error")
            assert said["error"]["message"].endswith(".")
        assert relay.current().sessions == 0

    async def test_a_problem_that_may_pass_says_when_to_come_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def unavailable(*arguments: object) -> None:
            raise ServiceUnavailable

        monkeypatch.setattr(relay.Relay, "follow", unavailable)
        answer = await ask(ARTICLES)
        assert (answer.status_code, answer["retry-after"]) == (503, "5")
        assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"

    async def test_a_query_that_hangs_is_not_waited_for(
        self, news: Newsroom, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        goes_on = threading.Event()

        def hang(representation: Representation) -> Snapshot:
            goes_on.wait()
            return Snapshot(frozenset(), ())

        monkeypatch.setattr(Representation, "snapshot", hang)
        monkeypatch.setattr(changes, "ANSWER_SECONDS", 0.1)
        try:
            answer = await ask(ARTICLES)
        finally:
            goes_on.set()
        assert (answer.status_code, answer["retry-after"]) == (503, "5")
        assert answer.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
        assert relay.current().sessions == 0

    async def test_other_methods_are_refused(self) -> None:
        for method in ("post", "put", "patch", "delete"):
            answer = await getattr(AsyncClient(), method)("/live/changes/")
            assert (answer.status_code, answer["allow"]) == (405, "GET, HEAD, OPTIONS")
        answer = await AsyncClient().options("/live/changes/")
        assert (answer.status_code, answer["allow"]) == (204, "GET, HEAD, OPTIONS")

    async def test_head_is_get_without_its_body(self, news: Newsroom) -> None:
        answer = await AsyncClient().head("/live/changes/", ARTICLES)
        assert (answer.status_code, answer.content) == (200, b"")

    async def test_a_page_of_a_foreign_origin_is_refused(self) -> None:
        for origin in ("http://evil.example", "null", "https://testserver", "http://testserver:81"):
            answer = await ask(ARTICLES, origin=origin)
            assert (answer.status_code, answer.json()["type"]) == (403, "server")
            assert "access-control-allow-origin" not in answer

    async def test_an_allowed_page_may_read_what_it_gets(self, news: Newsroom) -> None:
        origin = "http://localhost:3000"
        for parameters in (ARTICLES, {"collection": "nothing"}):
            answer = await ask(parameters, origin=origin)
            assert answer["access-control-allow-origin"] == origin
            assert answer["access-control-allow-credentials"] == "true"
            assert answer["access-control-expose-headers"] == "Retry-After"
            assert "Origin" in answer["vary"]


class TestAskers:
    @pytest.fixture
    async def member(self, news: Newsroom) -> AsyncClient:
        def arrange() -> AsyncClient:
            PageViewRestriction.objects.create(page=news.town, restriction_type="login")
            browser = AsyncClient()
            browser.force_login(newsroom.add_user("member"))
            return browser

        found: AsyncClient = await sync(arrange)
        return found

    async def test_a_cookie_counts_when_a_page_of_ours_sends_it(self, member: AsyncClient) -> None:
        everything, public = ["Bells", "Opera", "Tram"], ["Opera"]
        said: list[tuple[dict[str, str], list[str]]] = [
            ({"origin": "http://testserver"}, everything),
            ({"origin": "http://localhost:3000"}, everything),
            ({"sec-fetch-site": "same-origin"}, everything),
            ({"sec-fetch-site": "cross-site"}, public),
            ({}, public),
        ]
        for headers, titles in said:
            answer = await member.get("/live/changes/", ARTICLES, headers=headers)
            [init] = answer.json()["frames"]
            assert [row["title"] for row in init["data"]] == titles, headers

    async def test_the_authenticators_of_rest_framework_say_nothing(
        self, member: AsyncClient
    ) -> None:
        basic = "Basic " + base64.b64encode(b"member:demo").decode()
        [init] = (await ask(ARTICLES, authorization=basic)).json()["frames"]
        assert [row["title"] for row in init["data"]] == ["Opera"]


def wsgi_get(parameters: dict[str, Any], **more: Any) -> tuple[int, dict[str, str], Any]:
    """Ask as a WSGI server does, in the calling thread."""
    environ = RequestFactory().get("/live/changes/", parameters, **more).environ
    said: list[Any] = []
    try:
        body = b"".join(
            WSGIHandler()(environ, lambda status, headers: said.extend((status, headers)))
        )
    finally:
        connections.close_all()
    return int(said[0].split()[0]), dict(said[1]), json.loads(body)


def own_threads() -> set[str]:
    """Return the names of this package's threads, less those of the database pool."""
    names = {thread.name for thread in threading.enumerate()}
    return {one for one in names if "wagtail-live" in one and "wagtail-live-db" not in one}


class TestWsgi:
    async def test_the_whole_gap_is_there_and_nothing_stays(self, news: Newsroom) -> None:
        before = own_threads()
        _, _, answer = await asyncio.to_thread(wsgi_get, ARTICLES)
        assert answer["frames"][0]["event"] == "init"
        await sync(lambda: meanwhile(news))
        _, _, answer = await asyncio.to_thread(wsgi_get, {**ARTICLES, "cursor": answer["cursor"]})
        assert [frame["event"] for frame in answer["frames"][:4]] == [
            "resume",
            "delete",
            "create",
            "update",
        ]
        assert bell._listeners == set()
        assert own_threads() <= before

    async def test_a_worker_is_not_held_up_by_a_wait(self, news: Newsroom) -> None:
        _, _, answer = await asyncio.to_thread(wsgi_get, ARTICLES)
        waits = {**ARTICLES, "cursor": answer["cursor"], "wait": 60}
        status, headers, answer = await asyncio.to_thread(wsgi_get, waits)
        assert (status, headers["Retry-After"]) == (200, "5")
        assert [frame["event"] for frame in answer["frames"]] == ["resume"]

    async def test_the_rule_for_pages_and_cookies_is_the_same(self, news: Newsroom) -> None:
        status, _, answer = await asyncio.to_thread(
            wsgi_get, ARTICLES, headers={"origin": "http://evil.example"}
        )
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")


class TestAddresses:
    async def test_the_addresses_have_names(self) -> None:
        assert reverse("wagtail_live:changes") == "/live/changes/"
        assert reverse("wagtail_live:events") == "/live/events/"

    async def test_an_event_stream_that_is_not_mounted_says_which_line_is_missing(self) -> None:
        for method in ("get", "post"):
            client = Client(enforce_csrf_checks=True)
            answer = await sync(lambda m=method, c=client: getattr(c, m)("/live/events/"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (501, "NOT_MOUNTED")
            assert "http_urlpatterns" in answer.json()["error"]["message"]


DESCRIBED = operation(longest_wait=changes.WAIT_SECONDS)


class TestOpenApi:
    PATTERNS = (path("live/changes/", Changes.as_view()),)

    async def test_rest_frameworks_own_document_has_it(self, settings: Any) -> None:
        document = SchemaGenerator(title="A site", patterns=self.PATTERNS).get_schema(public=True)
        assert document["paths"] == {"/live/changes/": {"get": DESCRIBED}}
        document["info"]["version"] = "1"
        validate_schema(document)

    async def test_that_of_drf_spectacular_has_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = drf_spectacular.openapi.AutoSchema
        monkeypatch.setattr("rest_framework.schemas.inspectors.api_settings", FakeSettings(made))
        document = Spectacular(patterns=self.PATTERNS).get_schema(public=True)
        assert document["paths"] == {"/live/changes/": {"get": DESCRIBED}}
        validate_schema(document)

    async def test_its_parameters_are_those_of_subscribe_and_wait(self) -> None:
        names = {one["name"] for one in DESCRIBED["parameters"]}
        assert names == {*Subscribe.__struct_fields__, "wait"}

    async def test_real_answers_are_as_described(self, news: Newsroom) -> None:
        answers = [await ask(ARTICLES), await ask({"collection": "pages", "item": news.tram.pk})]
        cursor = answers[0].json()["cursor"]
        await sync(lambda: meanwhile(news))
        answers += [
            await ask({**ARTICLES, "cursor": cursor}),
            await ask({**ARTICLES, "cursor": "forged", "uid": "1"}),
            await ask({"collection": "nothing"}),
            await ask({}),
        ]
        for answer in answers:
            described = DESCRIBED["responses"][str(answer.status_code)]["content"]
            schema = described["application/json"]["schema"]
            jsonschema.validate(answer.json(), closed(schema))


class FakeSettings:
    """REST framework's settings with another schema class."""

    def __init__(self, schema_class: type) -> None:
        self.DEFAULT_SCHEMA_CLASS = schema_class


def closed(schema: Any) -> Any:
    """Return ``schema`` with every object held to the members that it names."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(one) for name, one in schema.items()}
    return {**inner, "additionalProperties": False} if "properties" in schema else inner
