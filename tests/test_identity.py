from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone
from wagtail.models import PageViewRestriction, Site

from tests.test_handshake import OWN, asked, scope
from tests.tokens import APIToken, needs_tokens, token_of
from wagtail_live import access_tokens, tickets
from wagtail_live.exceptions import InvalidCredentials
from wagtail_live.handshake import http_request
from wagtail_live.identity import (
    Credentials,
    credentials,
    ends_at,
    identify,
    key,
    presented,
)
from wagtail_live.policy import Policy
from wagtail_live.protocol import Auth

NOTHING = Credentials()


def cookie_of(client: Client) -> tuple[bytes, bytes]:
    return b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode()


def asker_behind(*headers: tuple[bytes, bytes]) -> Any:
    request = http_request(scope(*headers))
    assert request is not None
    return identify(request, credentials(request))


def person_behind(*headers: tuple[bytes, bytes]) -> Any:
    return asker_behind(*headers).user


def bearer(text: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {text}".encode()


# Who it is


@pytest.fixture
def member(db: None) -> User:
    return User.objects.create_user("member", password="secret")


@pytest.fixture
def signed_in(member: User) -> Client:
    client = Client()
    client.force_login(member)
    return client


def test_a_session_is_its_user(signed_in: Client, member: User) -> None:
    assert person_behind((b"origin", OWN), cookie_of(signed_in)) == member


def test_without_origin_a_session_is_nobody(signed_in: Client) -> None:
    assert person_behind(cookie_of(signed_in)).is_anonymous


@pytest.mark.parametrize("cookie", [b"", b"sessionid=", b"sessionid=unknown", b"sessionid=\xff"])
def test_no_session_is_nobody(db: None, cookie: bytes) -> None:
    assert person_behind((b"origin", OWN), (b"cookie", cookie)).is_anonymous


def signed_out(client: Client, user: User) -> None:
    client.logout()


def deactivated(client: Client, user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def deleted(client: Client, user: User) -> None:
    user.delete()


def given_a_new_password(client: Client, user: User) -> None:
    user.set_password("another")
    user.save()


@pytest.mark.parametrize("become", [signed_out, deactivated, deleted, given_a_new_password])
def test_a_user_who_may_no_longer_is_nobody(
    signed_in: Client, member: User, become: Callable[[Client, User], None]
) -> None:
    cookie = cookie_of(signed_in)
    become(signed_in, member)
    assert person_behind((b"origin", OWN), cookie).is_anonymous


def test_a_sessions_passed_restrictions_are_there_to_read(signed_in: Client) -> None:
    name = PageViewRestriction.passed_view_restrictions_session_key
    session = signed_in.session
    session[name] = [5]
    session.save()
    request = http_request(scope((b"origin", OWN), cookie_of(signed_in)))
    assert request is not None
    assert identify(request, NOTHING).session.get(name) == [5]


def test_after_a_key_rotation_the_socket_signs_nobody_out(member: User) -> None:
    with override_settings(SECRET_KEY="old"):
        client = Client()
        client.force_login(member)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        for _ in range(2):
            assert person_behind((b"origin", OWN), cookie_of(client)) == member


def test_a_refused_session_is_left_for_a_request_to_end(signed_in: Client, member: User) -> None:
    given_a_new_password(signed_in, member)
    assert person_behind((b"origin", OWN), cookie_of(signed_in)).is_anonymous
    assert signed_in.session.session_key is not None
    assert signed_in.session.exists(signed_in.cookies["sessionid"].value)


@override_settings(SESSION_COOKIE_NAME="mine")
def test_the_cookie_has_the_name_that_the_site_gives_it(member: User) -> None:
    client = Client()
    client.force_login(member)
    value = client.cookies["mine"].value.encode()
    assert person_behind((b"origin", OWN), (b"cookie", b"mine=" + value)) == member
    assert person_behind((b"origin", OWN), (b"cookie", b"sessionid=" + value)).is_anonymous


@override_settings(SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies")
def test_the_sessions_engine_is_the_sites(member: User) -> None:
    client = Client()
    client.force_login(member)
    assert person_behind((b"origin", OWN), cookie_of(client)) == member


# Who is nobody, like so many


class NarrowPolicy(Policy):
    """Shows less, and to nobody in particular."""


class CuriousPolicy(Policy):
    """Looks at more of the asker than the default does."""

    def audience(self, request: Any) -> Any:
        return super().audience(request)


def test_strangers_who_ask_the_same_host_are_alike() -> None:
    one, other = asked(OWN), asked(OWN)
    assert one is not None
    assert other is not None
    assert key(one, NOTHING) is not None
    assert key(one, NOTHING) == key(other, NOTHING)


@override_settings(ALLOWED_HOSTS=["*"])
def test_strangers_who_ask_another_host_are_not() -> None:
    one, other = asked(host=b"one.example.com"), asked(host=b"other.example.com")
    assert one is not None
    assert other is not None
    assert key(one, NOTHING) != key(other, NOTHING)


def test_who_has_a_session_is_like_those_who_have_the_same() -> None:
    some = [
        http_request(scope((b"origin", OWN), (b"cookie", b"sessionid=" + name)))
        for name in (b"x", b"x", b"y")
    ]
    keys = [key(one, NOTHING) for one in some if one is not None]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] != key(asked(OWN) or some[0], NOTHING)


@pytest.mark.parametrize(("policy", "alike"), [("NarrowPolicy", True), ("CuriousPolicy", False)])
def test_a_policy_that_looks_at_more_is_shown_everybody(policy: str, alike: bool) -> None:
    request = asked(OWN)
    assert request is not None
    with override_settings(WAGTAIL_LIVE_POLICY=f"tests.test_identity.{policy}"):
        assert (key(request, NOTHING) is not None) is alike


def test_who_brought_a_token_is_like_those_who_brought_it_too() -> None:
    request = http_request(scope((b"cookie", b"sessionid=x")))
    assert request is not None
    brought = Credentials("x")
    assert key(request, brought) == key(request, Credentials("x"))
    assert key(request, brought) not in {key(request, Credentials("y")), key(request, NOTHING)}


def test_who_brought_a_ticket_is_like_nobody_else() -> None:
    request = asked(OWN)
    assert request is not None
    one, other = presented(Auth(ticket="x")), presented(Auth(ticket="x"))
    assert key(request, one) != key(request, other)


# Access tokens


@needs_tokens
class TestTokens:
    def test_a_token_is_its_user(self, member: User) -> None:
        token, text = token_of(member)
        asker = asker_behind(bearer(text))
        assert (asker.user, asker.auth, dict(asker.session)) == (member, token, {})

    def test_a_token_wins_over_a_cookie(self, signed_in: Client) -> None:
        other = User.objects.create_user("other")
        _, text = token_of(other)
        asker = asker_behind((b"origin", OWN), cookie_of(signed_in), bearer(text))
        assert asker.user == other
        assert not dict(asker.session)

    @pytest.mark.parametrize(
        "text",
        ["", "x", "wagtail_", "wagtail_" + "0" * 33, "\u00e9", "\ud800", "\x00", "a" * 100_000],
    )
    def test_what_is_no_token_is_refused_and_the_cookie_does_not_stand_in(
        self, signed_in: Client, text: str
    ) -> None:
        request = http_request(scope((b"origin", OWN), cookie_of(signed_in)))
        assert request is not None
        with pytest.raises(InvalidCredentials):
            identify(request, Credentials(text))

    def test_two_tokens_at_once_are_none(self, member: User) -> None:
        _, text = token_of(member)
        with pytest.raises(InvalidCredentials):
            asker_behind(bearer(text), bearer(text))

    def test_a_token_that_has_been_revoked_is_refused(self, member: User) -> None:
        token, text = token_of(member)
        assert person_behind(bearer(text)) == member
        token.revoke()
        with pytest.raises(InvalidCredentials):
            person_behind(bearer(text))

    @pytest.mark.parametrize("become", [deactivated, deleted])
    def test_a_token_of_somebody_who_may_no_longer_is_refused(
        self, member: User, become: Callable[[Client, User], None]
    ) -> None:
        _, text = token_of(member)
        become(Client(), member)
        with pytest.raises(InvalidCredentials):
            person_behind(bearer(text))

    def test_a_token_survives_a_key_rotation(self, member: User) -> None:
        with override_settings(SECRET_KEY="old"):
            _, text = token_of(member)
        with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
            assert person_behind(bearer(text)) == member

    @pytest.mark.parametrize(("ago", "noted"), [(61, True), (59, False)])
    def test_its_use_is_noted_once_a_minute(self, member: User, ago: int, noted: bool) -> None:
        token, text = token_of(member)
        used = timezone.now() - timedelta(seconds=ago)
        APIToken.objects.update(last_used_at=used)
        person_behind(bearer(text))
        token.refresh_from_db()
        assert (token.last_used_at > used) is noted

    @override_settings(WAGTAILAPI_TOKEN_LAST_USED_INTERVAL=None)
    def test_its_use_is_not_noted_where_wagtail_does_not(self, member: User) -> None:
        token, text = token_of(member)
        person_behind(bearer(text))
        token.refresh_from_db()
        assert token.last_used_at is None

    def test_the_audience_knows_which_token_it_was(self, member: User) -> None:
        token, text = token_of(member)
        audience = Policy().audience(asker_behind(bearer(text)))
        assert (audience.token, audience.authenticated) == (token.pk, True)

    def test_its_text_is_in_no_log(self) -> None:
        assert "secret" not in repr(Credentials("secret"))


def test_a_wagtail_without_tokens_says_so(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_tokens, "_APIToken", None)
    with pytest.raises(InvalidCredentials, match="Wagtail 8"):
        person_behind(bearer("wagtail_x"))
    assert access_tokens.number(object()) is None


@pytest.mark.parametrize("header", [b"Basic dXNlcjpwYXNz", b"", b"Digest x", b"BearerX y"])
def test_an_authorization_of_another_kind_is_not_ours(signed_in: Client, header: bytes) -> None:
    who = person_behind((b"origin", OWN), cookie_of(signed_in), (b"authorization", header))
    assert who.is_authenticated


def test_everything_is_read_anew_each_time(signed_in: Client, member: User) -> None:
    Site.objects.all().delete()
    request = http_request(scope((b"origin", OWN), cookie_of(signed_in)))
    assert request is not None
    first = identify(request, NOTHING)
    before = Policy().audience(first)
    site = Site.objects.create(hostname="testserver", root_page_id=1, is_default_site=True)
    Site.clear_site_root_paths_cache()
    User.objects.update(is_superuser=True)
    after = Policy().audience(identify(request, NOTHING))
    assert (before.site, before.superuser) == (None, False)
    assert (after.site, after.superuser) == (site.pk, True)
    assert not hasattr(request, "user")


# Tickets


def ticket_for(client: Client, user: User, **fields: Any) -> Credentials:
    """Return what a connection brings to whom the user's session has handed a ticket."""
    key = client.cookies["sessionid"].value
    text = tickets.issue(user, session=key, origin="http://testserver", **fields)
    return presented(Auth(ticket=text))


def elsewhere() -> Any:
    """A request of the ticket's origin, without a cookie."""
    return asked(OWN)


class TestTickets:
    def test_a_ticket_is_the_session_that_asked_for_it(
        self, signed_in: Client, member: User
    ) -> None:
        name = PageViewRestriction.passed_view_restrictions_session_key
        session = signed_in.session
        session[name] = [5]
        session.save()
        brought = ticket_for(signed_in, member, collections=["pages"])
        for _ in range(2):
            asker = identify(elsewhere(), brought)
            audience = Policy().audience(asker)
            assert asker.user == member
            assert audience.authenticated
            assert audience.passed_pages == (5,)
            assert (audience.collections, audience.token) == (("pages",), None)
            assert ends_at(asker) == asker.auth.ends_at

    @pytest.mark.parametrize("become", [signed_out, deactivated, deleted, given_a_new_password])
    def test_a_ticket_ends_with_what_it_was_asked_for_with(
        self, signed_in: Client, member: User, become: Callable[[Client, User], None]
    ) -> None:
        brought = ticket_for(signed_in, member)
        assert identify(elsewhere(), brought).user == member
        become(signed_in, member)
        with pytest.raises(InvalidCredentials):
            identify(elsewhere(), brought)

    def test_a_ticket_wins_over_a_cookie(self, signed_in: Client, member: User) -> None:
        brought = ticket_for(signed_in, member)
        other = Client()
        other.force_login(User.objects.create_user("other"))
        request = http_request(scope((b"origin", OWN), cookie_of(other)))
        assert request is not None
        assert identify(request, brought).user == member

    def test_another_connection_cannot_have_it(self, signed_in: Client, member: User) -> None:
        brought = ticket_for(signed_in, member)
        identify(elsewhere(), brought)
        with pytest.raises(InvalidCredentials):
            identify(elsewhere(), presented(Auth(ticket=brought.ticket)))

    def test_a_session_that_is_somebody_elses_by_now_is_refused(
        self, signed_in: Client, member: User
    ) -> None:
        brought = ticket_for(signed_in, User.objects.create_user("other"))
        with pytest.raises(InvalidCredentials):
            identify(elsewhere(), brought)

    @needs_tokens
    def test_a_ticket_of_a_token_is_the_tokens_and_ends_with_it(self, member: User) -> None:
        token, _ = token_of(member)
        text = tickets.issue(member, token=token.pk, origin="http://testserver")
        brought = presented(Auth(ticket=text))
        audience = Policy().audience(identify(elsewhere(), brought))
        assert (audience.token, audience.authenticated) == (token.pk, True)
        token.revoke()
        with pytest.raises(InvalidCredentials):
            identify(elsewhere(), brought)

    def test_a_ticket_of_nothing_is_nobodys(self, member: User) -> None:
        text = tickets.issue(member, origin="http://testserver")
        with pytest.raises(InvalidCredentials):
            identify(elsewhere(), presented(Auth(ticket=text)))

    def test_its_text_is_in_no_log(self) -> None:
        assert "secret" not in repr(presented(Auth(ticket="secret")))
