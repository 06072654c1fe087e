"""The template tag prints one script element, and nothing in it can break out."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.template import Context, Template
from django.urls import include, path


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def printed(tag: str = "{% wagtail_live_script %}", **context: Any) -> dict[str, str | None]:
    """Return the attributes of the one element that ``tag`` prints."""
    html = Template("{% load wagtail_live %}" + tag).render(Context(context))
    parser = _Elements()
    parser.feed(html)
    [(name, attributes)] = parser.found
    assert name == "script"
    assert parser.text == "", "an inline script is not for a strict policy"
    return attributes


def test_the_script_is_a_module_that_connects_to_the_page_s_own_host() -> None:
    assert printed() == {
        "type": "module",
        "src": "/static/wagtail_live/wagtail-live.js",
        "data-url": "/websocket",
    }


def test_the_file_that_it_names_is_a_static_file_of_the_package() -> None:
    assert finders.find("wagtail_live/wagtail-live.js")


def test_the_address_is_the_setting_s(settings: Any) -> None:
    settings.WAGTAIL_LIVE_WEBSOCKET_URL = "wss://live.example.com/websocket"
    assert printed()["data-url"] == "wss://live.example.com/websocket"


def test_an_address_of_none_is_the_default(settings: Any) -> None:
    settings.WAGTAIL_LIVE_WEBSOCKET_URL = None
    assert printed()["data-url"] == "/websocket"


@pytest.mark.parametrize(
    ("mount", "websocket", "said"),
    [
        ("live/", "", None),
        ("cms/live/", "", "/cms/live/events/"),
        ("cms/live/", "wss://live.example.com/cms/websocket", None),
        ("live/", "wss://live.example.com/cms/websocket", "/live/events/"),
    ],
)
def test_the_event_stream_is_named_where_the_client_would_look_elsewhere(
    settings: Any, mount: str, websocket: str, said: str | None
) -> None:
    settings.ROOT_URLCONF = (path(mount, include("wagtail_live.urls")),)
    settings.WAGTAIL_LIVE_WEBSOCKET_URL = websocket
    assert printed().get("data-events-url") == said


def test_a_site_without_the_urls_names_no_event_stream(settings: Any) -> None:
    settings.ROOT_URLCONF = ()
    assert "data-events-url" not in printed()


def test_the_source_follows_the_static_storage(settings: Any) -> None:
    settings.STATIC_URL = "https://static.example.com/v1/"
    assert printed()["src"] == "https://static.example.com/v1/wagtail_live/wagtail-live.js"


def test_a_nonce_is_printed_when_there_is_one() -> None:
    tag = "{% wagtail_live_script nonce=csp_nonce %}"
    assert printed(tag, csp_nonce="r4nd0m")["nonce"] == "r4nd0m"


@pytest.mark.parametrize("context", [{}, {"csp_nonce": ""}, {"csp_nonce": None}])
def test_without_a_nonce_there_is_no_such_attribute(context: dict[str, Any]) -> None:
    assert "nonce" not in printed("{% wagtail_live_script nonce=csp_nonce %}", **context)


def test_a_lazy_nonce_is_evaluated() -> None:
    """Django's ``csp_nonce`` is made when it is first asked for, and is false until then."""

    class Lazy:
        def __bool__(self) -> bool:
            return False

        def __str__(self) -> str:
            return "made-late"

    assert printed("{% wagtail_live_script nonce=csp_nonce %}", csp_nonce=Lazy())["nonce"] == (
        "made-late"
    )


def test_neither_address_nor_nonce_breaks_out_of_its_attribute(settings: Any) -> None:
    hostile = '"><script>alert(1)</script>'
    settings.WAGTAIL_LIVE_WEBSOCKET_URL = f"wss://example.com/{hostile}"
    attributes = printed("{% wagtail_live_script nonce=csp_nonce %}", csp_nonce=hostile)
    assert attributes["data-url"] == f"wss://example.com/{hostile}"
    assert attributes["nonce"] == hostile
