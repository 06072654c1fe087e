from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone

from tests.tokens import needs_tokens, token_of
from wagtail_live import tickets
from wagtail_live.exceptions import InvalidCredentials, RateLimited, TokenExpired
from wagtail_live.models import Ticket

ORIGIN = "https://www.example.com"


@pytest.fixture
def member(db: None) -> User:
    return User.objects.create_user("member")


def redeemed(text: str, origin: str = ORIGIN, holder: UUID | None = None) -> Ticket:
    return tickets.redeem(text, origin=origin, holder=holder or uuid4())[0]


def late(**fields: Any) -> None:
    Ticket.objects.update(**fields)


def test_a_ticket_is_its_users(member: User) -> None:
    text = tickets.issue(member, origin=ORIGIN, collections=["pages", "images", "pages"])
    ticket = redeemed(text)
    assert ticket.user == member
    assert tickets.collections_of(ticket) == ("images", "pages")


def test_without_collections_it_opens_all(member: User) -> None:
    assert tickets.collections_of(redeemed(tickets.issue(member, origin=ORIGIN))) is None
    assert tickets.collections_of(None) is None


def test_with_no_collections_it_opens_none(member: User) -> None:
    ticket = redeemed(tickets.issue(member, origin=ORIGIN, collections=[]))
    assert tickets.collections_of(ticket) == ()


def test_it_is_good_once(member: User) -> None:
    text = tickets.issue(member, origin=ORIGIN)
    holder = uuid4()
    assert redeemed(text, holder=holder) == redeemed(text, holder=holder)
    with pytest.raises(InvalidCredentials, match="used"):
        redeemed(text)
    assert redeemed(text, holder=holder)


@pytest.mark.databases
def test_of_two_who_come_at_once_one_has_it(committed: None) -> None:
    member = User.objects.create_user("member")
    together = Barrier(2)

    def come(text: str) -> bool:
        together.wait(timeout=30)
        try:
            redeemed(text)
        except InvalidCredentials:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(2) as executor:
        for _ in range(10):
            text = tickets.issue(member, origin=ORIGIN)
            assert sorted(executor.map(come, [text, text])) == [False, True]


@pytest.mark.parametrize(
    "origin", ["", "null", "https://www.example.com:8443", "http://testserver"]
)
def test_a_page_of_another_origin_cannot_redeem_it(member: User, origin: str) -> None:
    text = tickets.issue(member, origin=ORIGIN)
    with pytest.raises(InvalidCredentials):
        redeemed(text, origin)
    assert redeemed(text)


@pytest.mark.parametrize("text", ["", "x", "\x00", "\ud800", "a" * 10_000])
def test_what_is_no_ticket_is_refused(member: User, text: str) -> None:
    with pytest.raises(InvalidCredentials):
        redeemed(text)


def test_it_waits_half_a_minute(member: User) -> None:
    text = tickets.issue(member, origin=ORIGIN)
    ticket = Ticket.objects.get()
    assert ticket.redeem_by - ticket.created_at == timedelta(seconds=30)
    late(redeem_by=timezone.now())
    with pytest.raises(TokenExpired):
        redeemed(text)
    assert Ticket.objects.get().holder is None


@pytest.mark.parametrize(("asked", "given"), [(60, 60), (8 * 3600, 8 * 3600), (10**9, 8 * 3600)])
def test_it_ends_when_it_was_asked_to_and_after_eight_hours(
    member: User, asked: int, given: int
) -> None:
    holder = uuid4()
    text = tickets.issue(member, origin=ORIGIN, seconds=asked)
    ticket = redeemed(text, holder=holder)
    assert ticket.ends_at - ticket.created_at == timedelta(seconds=given)
    late(ends_at=timezone.now())
    with pytest.raises(TokenExpired):
        redeemed(text, holder=holder)


def test_it_ends_with_its_user(member: User) -> None:
    holder = uuid4()
    text = tickets.issue(member, origin=ORIGIN)
    redeemed(text, holder=holder)
    User.objects.update(is_active=False)
    with pytest.raises(InvalidCredentials):
        redeemed(text, holder=holder)


def test_what_is_stored_gives_nothing_away(member: User) -> None:
    text = tickets.issue(member, session="the-sessions-key", origin=ORIGIN)
    stored = repr(Ticket.objects.values())
    assert text not in stored
    assert "the-sessions-key" not in stored
    _, session = tickets.redeem(text, origin=ORIGIN, holder=uuid4())
    assert session == "the-sessions-key"


@needs_tokens
def test_the_token_behind_it_is_known(member: User) -> None:
    token, _ = token_of(member)
    ticket = redeemed(tickets.issue(member, token=token.pk, origin=ORIGIN))
    assert tickets.token_behind(ticket) == tickets.token_behind(token) == token.pk


def test_behind_a_sessions_ticket_there_is_none(member: User) -> None:
    ticket = redeemed(tickets.issue(member, session="x", origin=ORIGIN))
    assert tickets.token_behind(ticket) is None


def test_a_user_may_ask_so_many_times_in_a_minute(member: User) -> None:
    for _ in range(tickets.PER_MINUTE):
        tickets.issue(member)
    with pytest.raises(RateLimited):
        tickets.issue(member)
    tickets.issue(User.objects.create_user("other"))
    late(created_at=timezone.now() - timedelta(seconds=61))
    tickets.issue(member)


def test_those_that_count_no_longer_are_deleted(member: User) -> None:
    now = timezone.now()
    kept = {
        "unused": {},
        "a moment too late": {"redeem_by": now},
        "used": {"redeem_by": now - timedelta(days=1), "holder": uuid4()},
    }
    gone = {
        "long too late": {"redeem_by": now - timedelta(hours=1, seconds=1)},
        "ended": {"ends_at": now, "holder": uuid4()},
    }
    for origin, fields in {**kept, **gone}.items():
        tickets.issue(member, origin=origin)
        Ticket.objects.filter(origin=origin).update(**fields)
    assert tickets.prune() == len(gone)
    assert set(Ticket.objects.values_list("origin", flat=True)) == kept.keys()
