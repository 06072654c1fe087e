"""Who brought a token or a ticket is the same person on every transport, and in no address."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import AsyncClient, Client
from wagtail.models import PageViewRestriction

from tests import newsroom
from tests.live import sync
from tests.newsroom import Newsroom
from tests.streams import OWN, Stream
from tests.tokens import needs_tokens, token_of
from wagtail_live import tickets
from wagtail_live.models import Ticket
from wagtail_live.testing import Closed, LiveClient
from wagtail_live.websocket import live_socket

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("quiet_relay", "committed")]

QUERY = "type=newsroom.ArticlePage&fields=title&order=title"
ARTICLES = {"collection": "pages", "query": QUERY}
SUBSCRIBE = {"type": "subscribe", **ARTICLES}
BAD = "wagtail_x"


@pytest.fixture
def critic(news: Newsroom) -> Any:
    """The only one who may read about the opera."""
    group = Group.objects.create(name="critics")
    restriction = PageViewRestriction.objects.create(
        page=news.arts, restriction_type=PageViewRestriction.GROUPS
    )
    restriction.groups.add(group)
    user = newsroom.add_user("critic")
    user.groups.add(group)
    return user


@pytest.fixture
def text(critic: Any) -> str:
    """The critic's token."""
    return token_of(critic)[1]


def bearer(text: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {text}".encode()


async def by_socket(text: str) -> Any:
    async with LiveClient(origin=None, headers=[bearer(text)]) as client:
        return await client.subscribe("pages", QUERY)


async def by_message(text: str) -> Any:
    async with LiveClient() as client:
        client.say({"type": "auth", "access_token": text})
        await client.hear()
        return await client.subscribe("pages", QUERY)


async def by_stream(text: str) -> Any:
    async with Stream(ARTICLES, headers=[bearer(text)]) as stream:
        frame = await stream.frame() if text != BAD else await refusal(stream)
        assert (stream.status == 401) is (text == BAD)
        return frame


async def by_post(text: str) -> Any:
    asked = [{"type": "auth", "access_token": text}, SUBSCRIBE]
    async with Stream(body=asked) as stream:
        assert (await stream.frame())["type"] == "auth"
        return await stream.frame()


async def by_changes(text: str) -> Any:
    answer = await AsyncClient().get(
        "/live/changes/", ARTICLES, headers={"authorization": f"Bearer {text}"}
    )
    if answer.status_code == 401:
        assert answer["www-authenticate"] == "Bearer"
        return answer.json()
    return answer.json()["frames"][0]


async def refusal(stream: Stream) -> Any:
    await stream.until_complete()
    assert stream.headers["www-authenticate"] == "Bearer"
    return json.loads(stream.raw)


WAYS = [by_socket, by_message, by_stream, by_post, by_changes]


@needs_tokens
@pytest.mark.parametrize("way", WAYS)
async def test_a_token_counts_on_every_way(way: Callable[..., Any], text: str) -> None:
    init = await way(text)
    assert [row["title"] for row in init["data"]] == ["Bells", "Opera", "Tram"]


@needs_tokens
@pytest.mark.parametrize("way", WAYS)
async def test_one_that_does_not_count_is_refused_on_every_way(
    way: Callable[..., Any], critic: Any
) -> None:
    assert (await way(BAD))["error"]["code"] == "INVALID_CREDENTIALS"


@needs_tokens
@pytest.mark.parametrize("way", WAYS)
async def test_a_revoked_one_is_refused_on_every_way(way: Callable[..., Any], critic: Any) -> None:
    token, text = await sync(lambda: token_of(critic))

    async def refused() -> Any:
        if way is not by_stream:
            return await way(text)
        async with Stream(ARTICLES, headers=[bearer(text)]) as stream:
            return await refusal(stream)

    await sync(token.revoke)
    assert (await refused())["error"]["code"] == "INVALID_CREDENTIALS"


class TestTickets:
    def ticket(self, critic: Any, **wanted: Any) -> str:
        client = Client()
        client.force_login(critic)
        headers = {"origin": "http://localhost"}
        answer = client.post(
            "/live/ticket/",
            json.dumps(wanted),
            content_type="application/json",
            headers=headers,
            SERVER_NAME="localhost",
        )
        return str(answer.json()["ticket"])

    @pytest.mark.parametrize("way", ["socket", "post"])
    async def test_a_ticket_counts_once(self, critic: Any, way: str) -> None:
        said = [{"type": "auth", "ticket": await sync(lambda: self.ticket(critic))}, SUBSCRIBE]
        for times in range(2):
            if way == "post":
                async with Stream(body=said, headers=[OWN]) as stream:
                    answers = [await stream.frame() for _ in said]
            else:
                async with LiveClient() as client:
                    for message in said:
                        client.say(message)
                    answers = [await client.hear() for _ in said]
            if not times:
                assert answers[0] == {"type": "auth", "status": "ok"}
                assert [row["title"] for row in answers[1]["data"]] == ["Bells", "Opera", "Tram"]
            else:
                assert {one["error"]["code"] for one in answers} == {"INVALID_CREDENTIALS"}

    async def test_it_opens_the_collections_that_it_is_for(self, critic: Any) -> None:
        ticket = await sync(lambda: self.ticket(critic, collections=["pages"]))
        async with LiveClient() as client:
            client.say({"type": "auth", "ticket": ticket})
            assert (await client.hear())["status"] == "ok"
            assert (await client.subscribe("pages", QUERY))["event"] == "init"
            closed = await client.subscribe("notices")
            missing = await client.subscribe("nothing")
            assert closed["error"] == missing["error"]
            assert closed["error"]["code"] == "FORBIDDEN"

    async def test_its_connection_ends_with_the_session_that_asked(self, critic: Any) -> None:
        browser = Client()
        await sync(lambda: browser.force_login(critic))
        key = browser.cookies["sessionid"].value
        ticket = await sync(lambda: tickets.issue(critic, session=key, origin="http://localhost"))
        async with LiveClient() as client:
            client.say({"type": "auth", "ticket": ticket})
            assert (await client.hear())["status"] == "ok"
            assert (await client.subscribe("pages", QUERY))["event"] == "init"
            await sync(browser.logout)
            with pytest.raises(Closed) as closed:
                await client.hear()
            assert closed.value.code == 4401

    async def test_one_that_came_too_late_says_so(self, critic: Any) -> None:
        ticket = await sync(lambda: self.ticket(critic))
        await sync(lambda: Ticket.objects.update(redeem_by=Ticket.objects.get().created_at))
        async with LiveClient() as client:
            client.say({"type": "auth", "ticket": ticket})
            assert (await client.hear())["error"]["code"] == "TOKEN_EXPIRED"


@pytest.mark.parametrize(
    "address", ["access_token=x", "ticket=x", "token=x", "Token=", "collection=pages&token=x"]
)
class TestAddresses:
    async def test_of_a_socket(self, news: Newsroom, address: str) -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": "/websocket",
            "query_string": address.encode(),
            "headers": [(b"host", b"localhost")],
            "extensions": {"websocket.http.response": {}},
        }
        await live_socket(scope, receive, send)
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 400
        assert "logs" in json.loads(sent[1]["body"])["error"]["message"]
        sent.clear()
        await live_socket({**scope, "extensions": None}, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]

    @pytest.mark.parametrize("body", [None, [SUBSCRIBE]])
    async def test_of_a_stream(self, news: Newsroom, address: str, body: Any) -> None:
        async with Stream(address, body=body) as stream:
            await stream.until_complete()
            assert stream.status == 400
            assert "logs" in json.loads(stream.raw)["error"]["message"]

    async def test_of_the_change_feed(self, news: Newsroom, address: str) -> None:
        answer = await AsyncClient().get(f"/live/changes/?{address}")
        assert answer.status_code == 400
        assert "logs" in answer.json()["error"]["message"]
