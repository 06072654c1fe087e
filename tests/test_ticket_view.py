from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import drf_spectacular.openapi
import jsonschema
import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path
from drf_spectacular.generators import SchemaGenerator as Spectacular
from drf_spectacular.validation import validate_schema

from tests.tokens import needs_tokens, token_of
from wagtail_live import tickets
from wagtail_live.models import Ticket
from wagtail_live.openapi import ticket_operation
from wagtail_live.protocol import TicketRequest
from wagtail_live.ticket_view import Tickets

OWN = {"origin": "http://testserver"}
FRONT = "https://www.example.com"
DESCRIBED = ticket_operation(
    redeem_seconds=tickets.REDEEM_SECONDS, longest_seconds=tickets.LONGEST_SECONDS
)

pytestmark = pytest.mark.usefixtures("front_end")


@pytest.fixture
def front_end(settings: Any) -> None:
    settings.WAGTAIL_LIVE_ALLOWED_ORIGINS = [FRONT]


@pytest.fixture
def member(db: None) -> User:
    return User.objects.create_user("member")


@pytest.fixture
def signed_in(member: User) -> Client:
    client = Client()
    client.force_login(member)
    return client


def ask(client: Client, body: object = "", headers: dict[str, str] | None = None) -> HttpResponse:
    text = body if isinstance(body, str) else json.dumps(body)
    return client.post(
        "/live/ticket/", text, content_type="application/json", headers=OWN | (headers or {})
    )


def code(answer: HttpResponse) -> tuple[int, str]:
    return answer.status_code, json.loads(answer.content)["error"]["code"]


def only_ticket(answer: HttpResponse, origin: str) -> Ticket:
    text = json.loads(answer.content)["ticket"]
    return tickets.redeem(text, origin=origin, holder=uuid4())[0]


def test_who_is_signed_in_gets_one(signed_in: Client, member: User) -> None:
    answer = ask(signed_in)
    assert answer.status_code == 201
    assert json.loads(answer.content).keys() == {"ticket", "expires_in"}
    assert json.loads(answer.content)["expires_in"] == 30
    assert answer["Cache-Control"] == "no-store"
    assert only_ticket(answer, OWN["origin"]).user == member


def test_a_length_that_is_no_number_is_no_failure(signed_in: Client) -> None:
    answer = signed_in.post(
        "/live/ticket/", content_type="application/json", headers=OWN, CONTENT_LENGTH="many"
    )
    assert answer.status_code == 201


def test_it_is_for_the_origin_and_the_collections_that_were_asked_for(signed_in: Client) -> None:
    wanted = {"origin": "https://WWW.example.com", "collections": ["pages"], "seconds": 60}
    ticket = only_ticket(ask(signed_in, wanted), FRONT)
    assert tickets.collections_of(ticket) == ("pages",)
    assert (ticket.ends_at - ticket.created_at).total_seconds() == 60


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "*", "", "www.example.com"])
def test_an_origin_that_may_not_connect_gets_none(signed_in: Client, origin: str) -> None:
    assert code(ask(signed_in, {"origin": origin})) == (400, "INVALID_PAYLOAD")


@pytest.mark.parametrize(
    "body",
    [
        *("[]", "{", "\x00", "[" * 5000, '"\ud800"', '{"more": 1}'),
        *('{"seconds": 0}', '{"seconds": 1.5}', '{"seconds": 1e99}'),
        *('{"collections": "pages"}', '{"collections": [1]}', '{"origin": 1}'),
    ],
)
def test_what_cannot_be_read_is_refused(signed_in: Client, body: str) -> None:
    answer = signed_in.post(
        "/live/ticket/",
        body.encode(errors="surrogatepass"),
        content_type="application/json",
        headers=OWN,
    )
    assert code(answer) == (400, "INVALID_PAYLOAD")


def test_too_much_is_refused(signed_in: Client, settings: Any) -> None:
    settings.WAGTAIL_LIVE_MAX_MESSAGE_BYTES = 1024
    assert code(ask(signed_in, " " * 1025)) == (400, "INVALID_PAYLOAD")


def test_nobody_gets_none(db: None) -> None:
    answer = ask(Client())
    assert code(answer) == (401, "INVALID_CREDENTIALS")
    assert answer["WWW-Authenticate"] == "Bearer"


def test_django_has_to_have_sent_the_page(member: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(member)
    assert code(ask(client)) == (403, "FORBIDDEN")
    token = client.get("/admin/login/") and "a" * 32
    client.cookies["csrftoken"] = token
    assert ask(client, headers={"x-csrftoken": token}).status_code == 201
    assert code(ask(client, headers={"x-csrftoken": "b" * 32})) == (403, "FORBIDDEN")


def test_the_cookie_of_a_page_elsewhere_does_not_count(signed_in: Client) -> None:
    assert code(ask(signed_in, headers={"origin": FRONT})) == (401, "INVALID_CREDENTIALS")


def test_without_origin_the_cookie_does_not_count(signed_in: Client) -> None:
    answer = signed_in.post("/live/ticket/", "", content_type="application/json")
    assert code(answer) == (401, "INVALID_CREDENTIALS")


def test_a_page_that_is_not_allowed_is_refused(signed_in: Client) -> None:
    answer = ask(signed_in, headers={"origin": "https://evil.example"})
    assert code(answer) == (403, "FORBIDDEN")
    assert "Access-Control-Allow-Origin" not in answer


def test_a_preflight_says_what_may_be_sent(db: None) -> None:
    answer = Client().options("/live/ticket/", headers={"origin": FRONT})
    assert answer.status_code == 204
    assert answer["Access-Control-Allow-Origin"] == FRONT
    assert "Authorization" in answer["Access-Control-Allow-Headers"]


def test_it_is_never_fetched_by_get(signed_in: Client) -> None:
    answer = signed_in.get("/live/ticket/", headers=OWN)
    assert code(answer) == (405, "INVALID_PAYLOAD")
    assert answer["Allow"] == "POST, OPTIONS"


def test_who_asks_very_often_waits(signed_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "PER_MINUTE", 1)
    assert ask(signed_in).status_code == 201
    answer = ask(signed_in)
    assert code(answer) == (429, "RATE_LIMITED")
    assert answer["Retry-After"] == "60"


@needs_tokens
class TestTokens:
    def test_who_has_a_token_gets_one_without_csrf(self, member: User) -> None:
        token, text = token_of(member)
        client = Client(enforce_csrf_checks=True)
        headers = {"authorization": f"Bearer {text}"}
        ticket = only_ticket(ask(client, {"origin": FRONT}, headers), FRONT)
        assert (ticket.user, ticket.token, ticket.session) == (member, token.pk, "")

    def test_a_program_without_origin_gets_one_for_such_programs(self, member: User) -> None:
        _, text = token_of(member)
        headers = {"authorization": f"Bearer {text}"}
        answer = Client().post("/live/ticket/", "", content_type="text/plain", headers=headers)
        assert only_ticket(answer, "").user == member

    def test_a_token_that_does_not_count_gets_none_even_with_a_cookie(
        self, signed_in: Client
    ) -> None:
        answer = ask(signed_in, headers={"authorization": "Bearer x"})
        assert code(answer) == (401, "INVALID_CREDENTIALS")


@override_settings(WAGTAIL_LIVE_ALLOWED_ORIGINS=[FRONT])
def test_a_secret_in_the_address_is_refused(signed_in: Client) -> None:
    answer = signed_in.post("/live/ticket/?token=x", headers=OWN)
    assert code(answer) == (400, "INVALID_PAYLOAD")


class TestDocument:
    """Your OpenAPI document has it."""

    PATTERNS = (path("live/ticket/", Tickets.as_view()),)

    def test_a_document_with_it_is_valid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = SimpleNamespace(DEFAULT_SCHEMA_CLASS=drf_spectacular.openapi.AutoSchema)
        monkeypatch.setattr("rest_framework.schemas.inspectors.api_settings", made)
        document = Spectacular(patterns=self.PATTERNS).get_schema(public=True)
        assert document["paths"] == {"/live/ticket/": {"post": DESCRIBED}}
        validate_schema(document)

    def test_the_body_is_described_as_it_is_read(self) -> None:
        body = DESCRIBED["requestBody"]["content"]["application/json"]["schema"]
        assert body["properties"].keys() == set(TicketRequest.__struct_fields__)

    def test_real_answers_are_as_described(
        self, signed_in: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tickets, "PER_MINUTE", 1)
        evil = {"origin": "https://evil.example"}
        answers = [
            ask(signed_in),
            ask(signed_in),
            ask(signed_in, "x"),
            ask(Client()),
            ask(signed_in, headers=evil),
        ]
        assert {str(answer.status_code) for answer in answers} == DESCRIBED["responses"].keys()
        for answer in answers:
            described = DESCRIBED["responses"][str(answer.status_code)]
            schema = described["content"]["application/json"]["schema"]
            jsonschema.validate(json.loads(answer.content), schema)
