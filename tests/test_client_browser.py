"""The JavaScript client and its DOM binder in a real Chromium; the server obeys the test."""

from __future__ import annotations

import functools
import http.server
import json
import os
import queue
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

STATIC = Path(__file__).parent.parent / "wagtail_live/static/wagtail_live"
CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("REQUIRE_ALL"),
    reason="Chromium is not installed: the client is not tested in a browser.",
)

STRICT_CSP = (
    "default-src 'none'; script-src 'self'; connect-src *; img-src 'self'; "
    "require-trusted-types-for 'script'; "
)
REPORTS = "/reports"
#: The CSP that the manual recommends, and where the browser tells what it has refused.
RECOMMENDED_CSP = (
    "default-src 'none'; script-src 'self'; connect-src *; img-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
    f"trusted-types wagtail-live; report-uri {REPORTS}"
)
HOSTILE = "<img src=x onerror='document.body.dataset.ran = 1'><script>ran()</script>"


def bind_low() -> socket.socket:
    """A listening socket below the ports that the kernel hands out to clients."""
    while True:
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", random.randrange(20000, 32768)))
        except OSError:
            listener.close()
        else:
            listener.listen()
            return listener


class Site:
    """Pages, the client's files under hashed names, and a WebSocket endpoint in the test's hand."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, str]] = {}
        self.frames: queue.Queue[dict[str, Any]] = queue.Queue()
        self.connections: list[ServerConnection] = []
        #: What browsers report that a page's CSP has refused.
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        sockets = bind_low()
        self.websocket_url = f"ws://127.0.0.1:{sockets.getsockname()[1]}/websocket"
        self.websocket = serve(self._converse, sock=sockets)
        pages = bind_low()
        self.url = f"http://127.0.0.1:{pages.getsockname()[1]}"
        self.http = http.server.ThreadingHTTPServer(
            pages.getsockname(), functools.partial(Handler, self), bind_and_activate=False
        )
        self.http.socket.close()
        self.http.socket = pages
        for server in (self.websocket, self.http):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def _converse(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            for text in connection:
                self.frames.put(json.loads(text))
        except ConnectionClosed:
            pass

    def close(self) -> None:
        self.websocket.shutdown()
        self.http.shutdown()
        self.http.server_close()

    def asked(self, kind: str = "subscribe") -> dict[str, Any]:
        """The next frame of this kind that the client sends."""
        while True:
            frame = self.frames.get(timeout=10)
            if frame["type"] == kind:
                return frame

    def say(self, event: str, data: object, asked: dict[str, Any], **more: object) -> None:
        frame = {"type": "subscription", "event": event, "data": data, "uid": asked["uid"]}
        self.connections[-1].send(json.dumps({**frame, "cursor": "c", **more}))


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, site: Site, *args: Any) -> None:
        self.site = site
        super().__init__(*args)

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if self.path in self.site.pages:
            text, csp = self.site.pages[self.path]
            self._answer(200, "text/html; charset=utf-8", text, csp)
        elif name == "wagtail-live.0123456789ab.js":
            self._answer(200, "text/javascript", (STATIC / "wagtail-live.js").read_text())
        elif name in ("wagtail-live-dom.js", "wagtail-live-events.js"):
            self._answer(200, "text/javascript", (STATIC / name).read_text())
        else:
            self._answer(404, "text/plain", "not found")

    def do_POST(self) -> None:
        """A stream that answers each subscription and ends; or the collector of reports."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == REPORTS:
            self.site.reports.put(asked["csp-report"])
            self._answer(204, "text/plain", "")
            return
        data = {"id": 12, "title": f"From {self.path}"}
        frames = [
            {"type": "subscription", "event": "init", "data": data, "uid": one["uid"]}
            for one in asked
        ]
        events = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames)
        self._answer(200, "text/event-stream", f": ping\n\n{events}")

    def _answer(self, status: int, kind: str, text: str, csp: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if csp:
            self.send_header("Content-Security-Policy", csp)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "Chromium is not installed."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--headless"]
        )
        yield browser
        browser.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


Visit = Callable[..., Page]


@pytest.fixture
def visit(site: Site, browser: Browser) -> Iterator[Visit]:
    """Opens a page with this body and the client's script; fails on any uncaught exception."""
    context = browser.new_context()
    errors: list[str] = []

    def visit(body: str, csp: str = "", url: str | None = None, more: str = "") -> Page:
        script = (
            '<script type="module" src="/static/wagtail-live.0123456789ab.js" '
            f'data-url="{url or site.websocket_url}" {more}></script>'
        )
        site.pages["/"] = (
            f"<!doctype html><html><head>{script}</head><body>{body}</body></html>",
            csp,
        )
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{site.url}/")
        return page

    yield visit
    context.close()
    assert errors == []


ARTICLE = (
    '<article data-wagtail-live="pages/12"><h1 data-wagtail-live-field="title">Old</h1></article>'
)


def test_text_follows_the_object_without_a_line_of_javascript(site: Site, visit: Visit) -> None:
    page = visit(
        '<article data-wagtail-live="pages/12" data-wagtail-live-query="fields=title">'
        '<h1 data-wagtail-live-field="title">Old</h1>'
        '<p data-wagtail-live-field="author.name">Ann</p>'
        '<i data-wagtail-live-field="meta.slug">x</i></article>'
    )
    asked = site.asked()
    assert asked == {
        "type": "subscribe",
        "collection": "pages",
        "item": 12,
        "query": "fields=title",
        "uid": asked["uid"],
    }
    site.say("init", {"id": 12, "title": "First", "author": None, "meta": {"slug": "s"}}, asked)
    expect(page.locator("h1")).to_have_text("First")
    expect(page.locator("p")).to_have_text("")
    expect(page.locator("i")).to_have_text("s")
    expect(page.locator("article")).to_have_attribute("data-wagtail-live-state", "live")
    expect(page.locator("html")).to_have_attribute("data-wagtail-live-status", "connected")
    site.say("update", [{"id": 12, "title": "Second", "author": {"name": "Bo"}}], asked)
    expect(page.locator("h1")).to_have_text("Second")
    expect(page.locator("p")).to_have_text("Bo")


def test_a_deleted_object_is_marked_and_stays_where_it_is(site: Site, visit: Visit) -> None:
    page = visit(ARTICLE)
    asked = site.asked()
    site.say("init", {"id": 12, "title": "First"}, asked)
    site.say("delete", [12], asked)
    article = page.locator("article")
    expect(article).to_have_attribute("data-wagtail-live-state", "gone")
    expect(article).to_be_visible()
    expect(page.locator("h1")).to_have_text("First")
    site.say("create", [{"id": 12, "title": "Again"}], asked)
    expect(article).to_have_attribute("data-wagtail-live-state", "live")
    expect(page.locator("h1")).to_have_text("Again")


def test_a_refused_object_is_marked_as_gone(site: Site, visit: Visit) -> None:
    page = visit(ARTICLE)
    error = {"code": "FORBIDDEN", "message": "There is nothing to follow."}
    frame = {"type": "subscribe", "status": "error", "error": error, "uid": site.asked()["uid"]}
    site.connections[-1].send(json.dumps(frame))
    expect(page.locator("article")).to_have_attribute("data-wagtail-live-state", "gone")
    page.evaluate("document.body.append(document.querySelector('article').cloneNode(true))")
    expect(page.locator("[data-wagtail-live-state=gone]")).to_have_count(2)


def test_the_status_follows_the_connection_and_the_page_catches_up(
    site: Site, visit: Visit
) -> None:
    page = visit(ARTICLE)
    site.say("init", {"id": 12, "title": "First"}, site.asked(), cursor="c7")
    expect(page.locator("h1")).to_have_text("First")
    page.evaluate(
        "window.seen = []; new MutationObserver(() => seen.push("
        "document.documentElement.dataset.wagtailLiveStatus))"
        ".observe(document.documentElement, {attributes: true})"
    )
    site.connections[-1].close(1012)
    again = site.asked()
    assert again["cursor"] == "c7"
    site.say("resume", None, again)
    site.say("update", [{"id": 12, "title": "Missed"}], again)
    expect(page.locator("h1")).to_have_text("Missed")
    assert page.evaluate("seen") == ["reconnecting", "connected"]


def test_attributes_are_set_from_the_allow_list_and_nothing_else(site: Site, visit: Visit) -> None:
    page = visit(
        '<div data-wagtail-live="pages/12">'
        '<a data-wagtail-live-attr="href: meta.html_url; onclick: bad; style: bad">x</a>'
        '<img data-wagtail-live-attr="src: image.url; alt: image.alt"></div>'
    )
    asked = site.asked()
    image = {"url": "/a.jpg", "alt": 'A "cat"'}
    row = {"id": 12, "meta": {"html_url": "/news/"}, "image": image, "bad": "ran()"}
    site.say("init", row, asked)
    link, picture = page.locator("a"), page.locator("img")
    expect(link).to_have_attribute("href", "/news/")
    expect(picture).to_have_attribute("src", "/a.jpg")
    expect(picture).to_have_attribute("alt", 'A "cat"')
    assert page.evaluate("document.querySelector('a').getAttributeNames()") == [
        "data-wagtail-live-attr",
        "href",
    ]
    site.say("update", [{"id": 12, "meta": {"html_url": "javascript:alert(1)"}}], asked)
    expect(picture).to_have_attribute("alt", "")
    assert link.get_attribute("href") is None
    assert picture.get_attribute("src") is None


def test_elements_that_come_later_are_bound_and_those_that_go_unbound(
    site: Site, visit: Visit
) -> None:
    page = visit("<main></main>")
    page.evaluate(f"document.querySelector('main').innerHTML = {json.dumps(ARTICLE)}")
    asked = site.asked()
    site.say("init", {"id": 12, "title": "First"}, asked)
    expect(page.locator("h1")).to_have_text("First")
    page.evaluate(
        "document.querySelector('article').insertAdjacentHTML("
        "'beforeend', '<p data-wagtail-live-field=title></p>')"
    )
    expect(page.locator("p")).to_have_text("First")
    page.evaluate("document.body.append(document.querySelector('article'))")
    page.evaluate("document.querySelector('article').remove()")
    assert site.asked("unsubscribe")["uid"] == asked["uid"]
    assert site.frames.empty()


def test_another_object_in_the_attribute_is_another_subscription(site: Site, visit: Visit) -> None:
    page = visit(ARTICLE)
    first = site.asked()
    site.say("init", {"id": 12, "title": "Twelve"}, first)
    expect(page.locator("h1")).to_have_text("Twelve")
    page.evaluate("document.querySelector('article').dataset.wagtailLive = 'pages/13'")
    frames = [site.frames.get(timeout=10) for _ in range(2)]
    assert {frame["type"] for frame in frames} == {"subscribe", "unsubscribe"}
    second = next(frame for frame in frames if frame["type"] == "subscribe")
    assert second["item"] == 13
    site.say("init", {"id": 13, "title": "Thirteen"}, second)
    expect(page.locator("h1")).to_have_text("Thirteen")


def test_one_object_in_two_places_is_one_subscription(site: Site, visit: Visit) -> None:
    page = visit(ARTICLE + ARTICLE)
    site.say("init", {"id": 12, "title": "Both"}, site.asked())
    expect(page.locator("h1")).to_have_text(["Both", "Both"])
    page.evaluate("document.body.append(document.querySelector('article').cloneNode(true))")
    page.evaluate("document.querySelector('article').remove()")
    expect(page.locator("[data-wagtail-live-state=live]")).to_have_count(2)
    assert site.frames.empty()


def test_a_field_belongs_to_the_nearest_object(site: Site, visit: Visit) -> None:
    page = visit(
        '<section data-wagtail-live="pages/1"><h1 data-wagtail-live-field="title"></h1>'
        '<h2 data-wagtail-live="pages/2" data-wagtail-live-field="title"></h2></section>'
    )
    for asked in (site.asked(), site.asked()):
        site.say("init", {"id": asked["item"], "title": f"Page {asked['item']}"}, asked)
    expect(page.locator("h1")).to_have_text("Page 1")
    expect(page.locator("h2")).to_have_text("Page 2")


def test_a_change_is_an_event_that_bubbles(site: Site, visit: Visit) -> None:
    page = visit(ARTICLE + '<ul data-wagtail-live="pages"></ul>')
    page.evaluate(
        "window.told = []; document.addEventListener('wagtail-live:change', "
        "({target, detail}) => told.push([target.localName, detail.event, detail.data]))"
    )
    one, many = site.asked(), site.asked()
    site.say("init", {"id": 12, "title": "First"}, one)
    site.say("init", [{"id": 1}], many)
    site.say("delete", [1], many)
    page.wait_for_function("told.length === 3")
    assert page.evaluate("told") == [
        ["article", "init", {"id": 12, "title": "First"}],
        ["ul", "init", [{"id": 1}]],
        ["ul", "delete", [1]],
    ]
    expect(page.locator("ul")).to_have_attribute("data-wagtail-live-state", "live")


def test_equal_text_is_left_alone_so_a_selection_survives(site: Site, visit: Visit) -> None:
    page = visit(ARTICLE)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    site.say("init", {"id": 12, "title": "Old"}, site.asked())
    expect(page.locator("article")).to_have_attribute("data-wagtail-live-state", "live")
    assert page.evaluate("String(getSelection())") == "Old"


HTML_FIELD = (
    '<div data-wagtail-live="pages/12"><h1 data-wagtail-live-field="title"></h1>'
    '<p data-wagtail-live-field="body" data-wagtail-live-html></p></div>'
)


def test_html_is_set_only_where_the_author_of_the_page_asks_for_it(
    site: Site, visit: Visit
) -> None:
    page = visit(HTML_FIELD)
    site.say("init", {"id": 12, "title": "<b>T</b>", "body": "<b>B</b>"}, site.asked())
    expect(page.locator("h1")).to_have_text("<b>T</b>")
    expect(page.locator("p b")).to_have_text("B")


def test_html_cannot_bind_itself(site: Site, visit: Visit) -> None:
    page = visit(HTML_FIELD)
    body = f"{HTML_FIELD}<i data-wagtail-live-field=title>as written</i>{ARTICLE}"
    site.say("init", {"id": 12, "title": "T", "body": body}, site.asked())
    expect(page.locator("p i, div > i").first).to_have_text("as written")
    page.wait_for_timeout(100)
    assert page.locator("i").all_inner_texts() == ["as written"]
    assert site.frames.empty()


@pytest.mark.parametrize(
    ("policies", "is_html"), [("trusted-types wagtail-live", True), ("trusted-types 'none'", False)]
)
def test_with_trusted_types_the_policy_of_the_page_decides_about_html(
    site: Site, visit: Visit, policies: str, is_html: bool
) -> None:
    page = visit(HTML_FIELD, STRICT_CSP + policies)
    site.say("init", {"id": 12, "title": "T", "body": "<b>B</b>"}, site.asked())
    expect(page.locator("h1")).to_have_text("T")
    expect(page.locator("p")).to_have_text("B" if is_html else "<b>B</b>")


@pytest.mark.parametrize("csp", ["", STRICT_CSP + "trusted-types wagtail-live"])
def test_hostile_content_runs_nothing(site: Site, visit: Visit, csp: str) -> None:
    page = visit(
        '<div data-wagtail-live="pages/12"><h1 data-wagtail-live-field="title"></h1>'
        '<a data-wagtail-live-attr="href:link; title:title">x</a>'
        '<script type="text/plain" data-wagtail-live-field="title">old</script></div>',
        csp,
    )
    asked = site.asked()
    row = {"id": 12, "title": HOSTILE, "link": " java\nscript:document.body.dataset.ran=1"}
    site.say("init", row, asked)
    expect(page.locator("h1")).to_have_text(HOSTILE)
    assert page.locator("h1 *").count() == 0
    assert page.locator("a").get_attribute("href") is None
    assert page.locator("a").get_attribute("title") == HOSTILE
    assert page.locator("div script").text_content() == "old"
    page.locator("a").click()
    page.wait_for_timeout(100)
    assert page.locator("body").get_attribute("data-ran") is None


@pytest.mark.parametrize(
    ("csp", "ran"), [("", "1"), (STRICT_CSP + "trusted-types wagtail-live", None)]
)
def test_html_is_trusted_as_far_as_the_csp_of_the_page_lets_it(
    site: Site, visit: Visit, csp: str, ran: str | None
) -> None:
    page = visit(HTML_FIELD, csp)
    site.say("init", {"id": 12, "title": "T", "body": HOSTILE}, site.asked())
    expect(page.locator("p img")).to_have_count(1)
    page.wait_for_timeout(300)
    assert page.locator("body").get_attribute("data-ran") == ran


RAN = "document.body.dataset.ran = 1"
#: What an editor's text might hold, if nothing had cleaned it.
HOSTILE_HTML = (
    f'<img src="/missing" onerror="{RAN}">',
    f"<script>{RAN}</script>",
    f'<svg onload="{RAN}"><script>{RAN}</script><animate onbegin="{RAN}" attributeName="x"/></svg>',
    f'<svg><a xlink:href="javascript:{RAN}"><text y="20">x</text></a></svg>',
    f'<math><mtext><table><mglyph><style><img src="/missing" onerror="{RAN}">',
    f'<a href="javascript:{RAN}">x</a>',
    f'<a href="java\tscript:{RAN}">x</a>',
    f"<iframe srcdoc='<script>parent.{RAN}</script>'></iframe>",
    f'<iframe src="javascript:parent.{RAN}"></iframe>',
    f'<details open ontoggle="{RAN}">x</details>',
    f'<input autofocus onfocus="{RAN}">',
    f'<form action="javascript:{RAN}"><button>x</button></form>',
    f'<object data="data:text/html,<script>parent.{RAN}</script>"></object>',
    f'<base href="https://evil.example/"><script src="x.js">{RAN}</script>',
    f'<template shadowrootmode="open"><img src="/missing" onerror="{RAN}"></template>',
)
HOSTILE_ADDRESSES = (
    f"javascript:{RAN}",
    f" \x01JaVaScRiPt:{RAN}",
    f"java\nscript:{RAN}",
    f"data:text/html,<script>opener.{RAN}</script>",
    f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='{RAN}'/>",
    f"vbscript:{RAN}",
    f"blob:null/{RAN}",
    f"view-source:javascript:{RAN}",
)


def reported(site: Site, page: Page) -> list[dict[str, Any]]:
    """What was reported until now: an image from elsewhere, which is refused, is the mark."""
    page.evaluate("document.body.append(Object.assign(new Image(), { src: 'http://mark.test/' }))")
    reports: list[dict[str, Any]] = []
    while "mark.test" not in (report := site.reports.get(timeout=10))["blocked-uri"]:
        reports.append(report)
    return reports


def test_what_the_client_does_breaks_no_strict_csp(site: Site, visit: Visit) -> None:
    page = visit(HTML_FIELD + ARTICLE, RECOMMENDED_CSP)
    asked = site.asked()
    site.say("init", {"id": 12, "title": "T", "body": "<b>B</b>"}, asked)
    site.say("update", [{"id": 12, "title": "U", "body": "<i>B</i>"}], asked)
    expect(page.locator("p i")).to_have_text("B")
    expect(page.locator("article h1")).to_have_text("U")
    assert reported(site, page) == []


@pytest.mark.parametrize("csp", ["", RECOMMENDED_CSP], ids=["no CSP", "strict"])
def test_hostile_text_and_addresses_run_nothing_and_are_nothing_to_report(
    site: Site, visit: Visit, csp: str
) -> None:
    page = visit(
        '<div data-wagtail-live="pages/12"><h1 data-wagtail-live-field="title"></h1>'
        '<a data-wagtail-live-attr="href: link; onclick: run; title: title">x</a>'
        '<iframe data-wagtail-live-attr="src: link; srcdoc: title"></iframe>'
        '<form data-wagtail-live-attr="action: link"><button type="button"'
        ' data-wagtail-live-attr="formaction: link; style: title">x</button></form>'
        '<svg><a data-wagtail-live-attr="href: link; xlink:href: link"><text>x</text></a></svg>'
        '<script data-wagtail-live-attr="src: link" type="text/plain"></script></div>',
        csp,
    )
    asked = site.asked()
    site.say("init", {"id": 12, "title": "", "link": ""}, asked)
    for text, link in zip_longest(HOSTILE_HTML, HOSTILE_ADDRESSES, fillvalue="javascript:1"):
        site.say("update", [{"id": 12, "title": text, "link": link, "run": RAN}], asked)
        expect(page.locator("h1")).to_have_text(text, use_inner_text=False)
        assert page.locator("h1 *").count() == 0
        assert page.evaluate("document.querySelector('div > a').getAttribute('href')") is None
    names = page.evaluate(
        "[...document.querySelectorAll('div iframe, form, button, svg a, div script')]"
        ".flatMap((element) => element.getAttributeNames())"
    )
    assert set(names) == {"data-wagtail-live-attr", "type"}
    if csp:
        assert reported(site, page) == []
    assert page.locator("body").get_attribute("data-ran") is None


def test_hostile_html_runs_nothing_under_a_strict_csp_and_is_reported(
    site: Site, visit: Visit
) -> None:
    page = visit(HTML_FIELD, RECOMMENDED_CSP)
    asked = site.asked()
    site.say("init", {"id": 12, "title": "", "body": ""}, asked)
    for number, html in enumerate(HOSTILE_HTML):
        site.say("update", [{"id": 12, "title": str(number), "body": html}], asked)
        expect(page.locator("h1")).to_have_text(str(number))
        for link in page.locator("p a, p button").all():
            link.dispatch_event("click")
        assert page.evaluate("document.baseURI") == f"{site.url}/"
    directives = {report["violated-directive"] for report in reported(site, page)}
    assert page.locator("body").get_attribute("data-ran") is None
    assert {"script-src-attr", "base-uri"} <= directives, "the collector hears of what is refused"


def test_a_page_without_elements_opens_no_connection(site: Site, visit: Visit) -> None:
    page = visit("<p>Nothing to follow.</p>")
    page.wait_for_timeout(300)
    assert site.connections == []
    assert page.locator("html").get_attribute("data-wagtail-live-status") is None


def test_the_module_serves_a_script_of_the_page(site: Site, visit: Visit) -> None:
    page = visit("")
    script = """async (url) => {
        const { connect } = await import("/static/wagtail-live.0123456789ab.js");
        window.live = connect(url);
        window.told = [];
        for await (const message of live.subscribe("pages", { limit: 2 })) {
            told.push(message);
            if (told.length === 2) break;
        }
        return told;
    }"""
    page.evaluate(f"url => {{ window.done = ({script})(url) }}", site.websocket_url)
    asked = site.asked()
    site.say("init", [{"id": 1}], asked)
    site.say("update", [{"id": 1, "title": "T"}], asked)
    assert page.evaluate("done") == [
        {"event": "init", "data": [{"id": 1}]},
        {"event": "update", "data": [{"id": 1, "title": "T"}]},
    ]
    assert site.asked("unsubscribe")["uid"] == asked["uid"]


def test_the_address_of_another_script_is_not_the_clients(site: Site, visit: Visit) -> None:
    """The module is imported, but the only tag with an address has another source."""
    page = visit(ARTICLE)
    site.asked()
    html, csp = site.pages["/"]
    tag = html[html.index("<script") : html.index("</script>")]
    other = tag.replace("wagtail-live.0123456789ab.js", "wagtail-live-dom.js")
    imported = '</script><script type="module" src="/static/wagtail-live.0123456789ab.js">'
    site.pages["/"] = html.replace(tag, other + imported), csp
    page.reload()
    page.wait_for_timeout(300)
    assert site.frames.empty()
    assert page.locator("html").get_attribute("data-wagtail-live-status") is None


def test_an_address_may_be_relative(site: Site, visit: Visit) -> None:
    opened: list[str] = []
    page = visit("", url="/websocket")
    page.on("websocket", lambda socket: opened.append(socket.url))
    page.evaluate(f"document.body.innerHTML = {json.dumps(ARTICLE)}")
    expect(page.locator("html")).to_have_attribute("data-wagtail-live-status", "reconnecting")
    assert opened[0] == site.url.replace("http", "ws") + "/websocket"


@pytest.mark.parametrize(
    ("more", "path"),
    [("", "/live/events/"), ('data-events-url="/cms/live/events/"', "/cms/live/events/")],
)
def test_where_no_websocket_opens_the_markup_follows_the_event_stream(
    visit: Visit, more: str, path: str
) -> None:
    page = visit(ARTICLE, STRICT_CSP, url="/websocket", more=more)
    expect(page.locator("h1")).to_have_text(f"From {path}", timeout=20_000)
