from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIRequest
from django.test import Client, override_settings
from wagtail.models import PageViewRestriction

from wagtail_live.handshake import anonymity, cross_origin_headers, http_request, identify
from wagtail_live.policy import Policy

OWN = b"http://testserver"


def scope(
    *headers: tuple[bytes, bytes], scheme: str = "ws", host: bytes = b"testserver"
) -> dict[str, Any]:
    return {
        "type": "websocket",
        "scheme": scheme,
        "path": "/websocket",
        "query_string": b"",
        "headers": [(b"host", host), *headers],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 80),
    }


def asked(*origins: bytes, **more: Any) -> ASGIRequest | None:
    return http_request(scope(*((b"origin", origin) for origin in origins), **more))


def cookie_of(client: Client) -> tuple[bytes, bytes]:
    return b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode()


def person_behind(*headers: tuple[bytes, bytes]) -> Any:
    request = http_request(scope(*headers))
    assert request is not None
    identify(request)
    return request.user


# Whose page may open a socket


def test_a_page_of_the_site_itself_may() -> None:
    assert asked(OWN) is not None


@pytest.mark.parametrize("origin", [b"HTTP://TestServer", b"http://TESTSERVER"])
def test_an_origin_is_the_same_in_capitals(origin: bytes) -> None:
    assert asked(origin) is not None


@override_settings(
    WAGTAIL_LIVE_ALLOWED_ORIGINS=["https://www.Example.com", "http://localhost:3000"]
)
@pytest.mark.parametrize("origin", [b"https://www.example.com", b"http://localhost:3000"])
def test_a_page_of_an_allowed_origin_may(origin: bytes) -> None:
    assert asked(origin) is not None


@override_settings(WAGTAIL_LIVE_ALLOWED_ORIGINS=["https://www.example.com", "null"])
@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"*",
        b"null",
        b"NULL",
        b"https://evil.example",
        b"https://testserver",
        b"http://testserver:8000",
        b"http://testserver.evil.example",
        b"http://evil.example/http://testserver",
        b"http://testserver/",
        b"testserver",
        b"http://www.example.com",
        b"https://www.example.com:8443",
        b"https://www.example.com.evil.example",
        b"https://sub.www.example.com",
        b"https://www.example.com, http://testserver",
        b"http://testserver\x00",
        "http://testsérver".encode(),
        b"\xff\xfe",
    ],
)
def test_every_other_page_is_refused(origin: bytes) -> None:
    assert asked(origin) is None


@override_settings(WAGTAIL_LIVE_ALLOWED_ORIGINS=["*"])
def test_a_star_opens_nothing() -> None:
    assert asked(b"https://evil.example") is None


def test_two_origins_are_refused_even_when_both_are_good() -> None:
    assert asked(OWN, OWN) is None
    assert asked(b"http://evil.example", OWN) is None


@pytest.mark.parametrize(
    ("scheme", "origin", "welcome"),
    [
        ("ws", b"http://testserver", True),
        ("wss", b"https://testserver", True),
        ("ws", b"https://testserver", False),
        ("wss", b"http://testserver", False),
    ],
)
def test_a_secure_socket_belongs_to_a_secure_page(
    scheme: str, origin: bytes, welcome: bool
) -> None:
    assert (asked(origin, scheme=scheme) is not None) == welcome


@override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_behind_a_proxy_the_scheme_is_the_one_that_django_sees() -> None:
    forwarded = (b"x-forwarded-proto", b"https")
    assert http_request(scope((b"origin", b"https://testserver"), forwarded)) is not None
    assert http_request(scope((b"origin", b"http://testserver"), forwarded)) is None


@override_settings(USE_X_FORWARDED_HOST=True, ALLOWED_HOSTS=["www.example.com"])
def test_behind_a_proxy_the_host_is_the_one_that_django_sees() -> None:
    forwarded = (b"x-forwarded-host", b"www.example.com")
    assert http_request(scope((b"origin", b"http://www.example.com"), forwarded)) is not None
    assert http_request(scope((b"origin", OWN), forwarded)) is None


@pytest.mark.parametrize("host", [b"evil.example", b"", b"test server", b"testserver:port"])
@pytest.mark.parametrize("origins", [(), (OWN,)])
def test_a_host_that_is_not_ours_is_refused(host: bytes, origins: tuple[bytes, ...]) -> None:
    assert asked(*origins, host=host) is None


def test_the_handshake_is_a_request_for_the_same_host_and_path() -> None:
    request = asked(OWN, scheme="ws", host=b"testserver")
    assert request is not None
    assert (request.method, request.path, request.get_host()) == ("GET", "/websocket", "testserver")
    assert request.headers["origin"] == "http://testserver"


def test_a_client_without_origin_is_welcome_but_its_cookies_do_not_count() -> None:
    request = http_request(scope((b"cookie", b"sessionid=abc")))
    assert request is not None
    assert request.COOKIES == {}


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        (b"same-origin", True),
        (b"same-site", False),
        (b"cross-site", False),
        (b"none", False),
        (b"", False),
        (b"same-origin, cross-site", False),
    ],
)
def test_without_origin_the_browser_must_say_that_the_page_is_ours(
    said: bytes, counts: bool
) -> None:
    request = http_request(scope((b"sec-fetch-site", said), (b"cookie", b"sessionid=abc")))
    assert request is not None
    assert bool(request.COOKIES) == counts


def test_what_the_browser_says_of_its_page_does_not_make_up_for_a_foreign_origin() -> None:
    same = (b"sec-fetch-site", b"same-origin")
    assert http_request(scope(same, (b"origin", b"http://evil.example"))) is None


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_rule_is_the_same_for_a_plain_request(scheme: str) -> None:
    plain = {**scope((b"origin", f"{scheme}://testserver".encode())), "type": "http"}
    request = http_request({**plain, "method": "POST", "scheme": scheme})
    assert request is not None
    assert (request.method, request.scheme) == ("POST", scheme)
    assert http_request({**plain, "method": "POST", "scheme": "ftp"}) is None


def test_an_address_that_is_no_text_is_refused() -> None:
    assert http_request({**scope(), "query_string": b"\xff"}) is None


@override_settings(WAGTAIL_LIVE_ALLOWED_ORIGINS=["http://localhost:3000"])
def test_an_allowed_page_is_told_that_it_may_read() -> None:
    request = asked(b"http://localhost:3000")
    assert request is not None
    assert cross_origin_headers(request) == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": "http://localhost:3000",
        "Access-Control-Allow-Credentials": "true",
    }
    request = http_request(scope())
    assert request is not None
    assert cross_origin_headers(request) == {"Vary": "Origin"}


def test_the_cookies_of_a_browser_count() -> None:
    request = http_request(scope((b"origin", OWN), (b"cookie", b"sessionid=abc; x=y")))
    assert request is not None
    assert request.COOKIES == {"sessionid": "abc", "x": "y"}


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
    identify(request)
    assert request.session.get(name) == [5]


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
    assert anonymity(one) is not None
    assert anonymity(one) == anonymity(other)


@override_settings(ALLOWED_HOSTS=["*"])
def test_strangers_who_ask_another_host_are_not() -> None:
    one, other = asked(host=b"one.example.com"), asked(host=b"other.example.com")
    assert one is not None
    assert other is not None
    assert anonymity(one) != anonymity(other)


def test_who_has_a_session_is_like_nobody_else() -> None:
    request = http_request(scope((b"origin", OWN), (b"cookie", b"sessionid=x")))
    assert request is not None
    assert anonymity(request) is None


@pytest.mark.parametrize(("policy", "alike"), [("NarrowPolicy", True), ("CuriousPolicy", False)])
def test_a_policy_that_looks_at_more_is_shown_everybody(policy: str, alike: bool) -> None:
    request = asked(OWN)
    assert request is not None
    with override_settings(WAGTAIL_LIVE_POLICY=f"tests.test_handshake.{policy}"):
        assert (anonymity(request) is not None) is alike
