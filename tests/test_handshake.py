from __future__ import annotations

from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.test import override_settings

from wagtail_live.handshake import cross_origin_headers, http_request

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
