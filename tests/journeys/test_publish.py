"""An editor presses Publish in Wagtail, and pages open on another origin change by themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from statistics import median, quantiles
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.processes import DemoServer, Frontend, demo_copy, demo_environment
from tests.servers import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.server]

ROUNDS = 20
ARTIFACTS = ROOT / "artifacts" / "publish"
PASSWORD = "newsroom-demo"  # noqa: S105 - the demo's
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WATCH = """() => {
  window.marker = "this document";
  window.seen = {};
  window.states = [];
  const look = () => {
    for (const { textContent: text } of document.querySelectorAll("[data-part=title]")) {
      window.seen[text] ??= Date.now();
    }
    const { state } = document.getElementById("status").dataset;
    if (window.states.at(-1) !== state) window.states.push(state);
  };
  look();
  const options = { attributes: true, characterData: true, childList: true, subtree: true };
  new MutationObserver(look).observe(document.body, options);
}"""


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    folder = demo_copy(tmp_path_factory, "publish")
    server = DemoServer(folder / "server.log", demo_environment(folder))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def frontend(server: DemoServer) -> Iterator[str]:
    frontend = Frontend(server.log, server.environment)
    yield frontend.url
    frontend.stop()


@pytest.fixture(scope="module")
def admin(browser: Browser, server: DemoServer) -> Iterator[Admin]:
    context = browser.new_context(viewport=DESKTOP)
    yield Admin(context.new_page(), server)
    context.close()


@pytest.fixture
def readers(browser: Browser, frontend: str) -> Iterator[Readers]:
    readers = Readers(browser, frontend)
    yield readers
    readers.close()


class Admin:
    """An editor at Wagtail's own forms and buttons."""

    def __init__(self, page: Page, server: DemoServer) -> None:
        self.page = page
        self.server = server
        sign_in(page, f"{server.url}/admin/login/", "admin")

    def articles(self) -> list[int]:
        """Return the keys of public articles with an edit form of their own, the newest first."""
        query = "type=newsroom.ArticlePage&locale=en&order=-date&fields=alias_of"
        items = self.server.ask(f"/api/v2/pages/?{query}")["items"]
        return [item["id"] for item in items if item["meta"]["alias_of"] is None]

    def edit(self, key: int, title: str) -> None:
        """Open the edit form and write another title."""
        self._open(f"pages/{key}/edit/")
        self.page.get_by_role("textbox", name="Title").first.fill(title)

    def press_publish(self) -> None:
        """Press Publish and wait for Wagtail's answer: not the form again, with errors."""
        footer = self.page.locator("footer")
        footer.get_by_role("button", name="More actions").click()
        with self.page.expect_navigation(wait_until="commit"):
            footer.get_by_role("button", name="Publish", exact=True).click()
        assert "/edit/" not in self.page.url

    def publish(self, key: int, title: str) -> None:
        self.edit(key, title)
        self.press_publish()

    def unpublish(self, key: int) -> None:
        self._open(f"pages/{key}/unpublish/")
        with self.page.expect_navigation(wait_until="domcontentloaded"):
            self.page.get_by_role("button", name="Yes, unpublish it").click()

    def add_notice(self, text: str) -> None:
        self._open("snippets/newsroom/notice/add/")
        self.page.get_by_role("textbox", name="Text").fill(text)
        with self.page.expect_navigation(wait_until="domcontentloaded"):
            self.page.get_by_role("button", name="Save").click()

    def commits(self, key: int) -> list[float]:
        """Return when transactions about this page had committed: Unix time in ms."""
        return [at for _, of, at in self.server.ask("/debug/commits") if of == str(key)]

    def _open(self, path: str) -> None:
        self.page.goto(f"{self.server.url}/admin/{path}", wait_until="domcontentloaded")


class Readers:
    """People with the front end open, each with a browser context of their own."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        self.contexts: list[Any] = []

    def open(self, path: str, viewport: Any = DESKTOP, scheme: Any = "light") -> Page:
        context = self.browser.new_context(viewport=viewport, color_scheme=scheme)
        self.contexts.append(context)
        page = context.new_page()
        page.goto(self.url + path)
        expect(page.locator("#status")).to_have_attribute("data-state", "connected")
        expect(page.locator("[data-part=title]").first).not_to_be_empty()
        page.evaluate(WATCH)
        return page

    def close(self) -> None:
        for context in self.contexts:
            context.close()


def sign_in(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.locator("input[name=username]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    with page.expect_navigation():
        page.locator("form:has(input[name=password]) button").first.click()
    assert "login" not in page.url


def headline(page: Page) -> Any:
    return page.locator("#article [data-part=title]")


def card(page: Page, key: int) -> Any:
    return page.locator(f"#stories [data-id='{key}']")


def assert_same_document(*pages: Page) -> None:
    """A reload would have taken the marker away."""
    for page in pages:
        assert page.evaluate("window.marker") == "this document"


@pytest.mark.measured
def test_a_published_title_shows_in_the_open_list_and_article(
    admin: Admin, readers: Readers, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The time runs from the commit of the page's row, as the server's clock had it, to the moment
    a MutationObserver sees the new title: one machine, one clock. The entry's ``created_at`` would
    count in the rest of Wagtail's transaction, which no reader can see before it ends.
    """
    key = admin.articles()[0]
    listing, article = readers.open("/"), readers.open(f"/article.html?id={key}")
    took: dict[str, list[float]] = {"list": [], "article": []}
    for number in range(1, ROUNDS + 1):
        title = f"Round {number} of the evening"
        admin.edit(key, title)
        before = admin.commits(key)
        admin.press_publish()
        expect(card(listing, key).locator("[data-part=title]")).to_have_text(title)
        expect(headline(article)).to_have_text(title)
        committed = next(at for at in admin.commits(key) if at not in before)
        for name, page in {"list": listing, "article": article}.items():
            took[name].append(page.evaluate("title => window.seen[title]", title) - committed)
    assert_same_document(listing, article)
    with capsys.disabled():
        for name, times in took.items():
            print(
                f"\npublish committed -> DOM changed ({name}): median {median(times):.0f} ms, "
                f"p95 {quantiles(times, n=20)[-1]:.0f} ms, max {max(times):.0f} ms, "
                f"{ROUNDS} rounds",
                end="",
            )
        print()


def test_the_pages_look_right_before_and_after_on_desktop_and_phone(
    admin: Admin, readers: Readers
) -> None:
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    key = admin.articles()[1]
    pages = {
        f"{path}-{size}-{scheme}": readers.open(url, viewport, scheme)
        for path, url in {"list": "/", "article": f"/article.html?id={key}"}.items()
        for size, viewport in {"1280": DESKTOP, "390": PHONE}.items()
        for scheme in ("light", "dark")
    }
    for name, page in pages.items():
        page.screenshot(path=ARTIFACTS / f"{name}-before.png")
    title = "The night tram stays, says the council"
    admin.publish(key, title)
    for name, page in pages.items():
        changed = card(page, key).locator("[data-part=title]") if "list" in name else headline(page)
        expect(changed).to_have_text(title)
        expect(page.locator("#status")).to_have_attribute("data-state", "updated")
        page.screenshot(path=ARTIFACTS / f"{name}-after.png")
        width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, f"{name} scrolls sideways"
    assert_same_document(*pages.values())


def test_an_unpublished_article_leaves_the_list_and_says_so_where_it_is_open(
    admin: Admin, readers: Readers
) -> None:
    key = admin.articles()[2]
    listing, article = readers.open("/"), readers.open(f"/article.html?id={key}")
    expect(card(listing, key)).to_have_count(1)
    admin.unpublish(key)
    expect(card(listing, key)).to_have_count(0)
    expect(article.locator("#gone")).to_be_visible()
    expect(headline(article)).to_have_text("")
    admin.publish(key, "Back again")
    expect(card(listing, key)).to_contain_text("Back again")
    expect(headline(article)).to_have_text("Back again")
    assert_same_document(listing, article)


def test_a_saved_notice_shows_in_the_banner(admin: Admin, readers: Readers) -> None:
    listing = readers.open("/")
    text = "Fog on the estuary: the last ferry sails at eight."
    admin.add_notice(text)
    expect(listing.locator("#notices .notice", has_text=text)).to_be_visible()
    assert_same_document(listing)


def test_a_restarted_server_is_found_again_and_what_was_missed_shows(
    admin: Admin, readers: Readers, server: DemoServer
) -> None:
    key = admin.articles()[0]
    listing = readers.open("/")
    sign = listing.locator("#status")
    server.stop()
    expect(sign).to_have_attribute("data-state", "reconnecting")
    server.shell(
        "from example_project.newsroom.models import ArticlePage\n"
        f"page = ArticlePage.objects.get(pk={key})\n"
        "page.title = 'Written while nobody served'\n"
        "page.save_revision().publish()"
    )
    server.start()
    title = card(listing, key).locator("[data-part=title]")
    expect(title).to_have_text("Written while nobody served", timeout=60_000)
    expect(sign).to_have_attribute("data-state", re.compile("updated|connected"))
    states = listing.evaluate("window.states")
    assert "connected" in states[states.index("reconnecting") :], states
    assert_same_document(listing)


def test_a_member_follows_the_members_section_and_the_public_does_not(
    admin: Admin, browser: Browser, server: DemoServer
) -> None:
    secret = members_article(server)
    follow = """async () => {
      const { connect } = await import("/static/wagtail_live/wagtail-live.js");
      window.rows = new Map();
      window.frames = 0;
      const query = { type: "newsroom.ArticlePage", fields: "title", limit: 100 };
      connect("/websocket").subscribe("pages", query, ({ event, data }) => {
        window.frames++;
        if (event === "delete") for (const id of data) window.rows.delete(id);
        else for (const { id, title } of data) window.rows.set(id, title);
      });
    }"""
    member, public = browser.new_context(), browser.new_context()
    try:
        pages = {"member": member.new_page(), "public": public.new_page()}
        sign_in(pages["member"], f"{server.url}/_util/login/", "member")
        for page in pages.values():
            page.goto(f"{server.url}/")
            page.evaluate(follow)
            page.wait_for_function("window.frames === 1")
        known = "key => window.rows.get(key)"
        assert pages["member"].evaluate(known, secret["id"]) == secret["title"]
        assert pages["public"].evaluate(known, secret["id"]) is None
        admin.publish(secret["id"], "For members' eyes")
        pages["member"].wait_for_function(f'({known})({secret["id"]}) === "For members\' eyes"')
        other = admin.articles()[0]
        admin.publish(other, "For everybody's eyes")
        # Frames come in order: what the public was to hear of the first change would be here.
        pages["public"].wait_for_function(f'({known})({other}) === "For everybody\'s eyes"')
        assert pages["public"].evaluate(known, secret["id"]) is None
    finally:
        member.close()
        public.close()


def members_article(server: DemoServer) -> dict[str, Any]:
    """Return an article of the members-only section, as the database has it."""
    said = server.shell(
        "import json\n"
        "from wagtail.models import PageViewRestriction as Rule\n"
        "from example_project.newsroom.models import ArticlePage\n"
        "section = Rule.objects.get(restriction_type='login').page\n"
        "page = ArticlePage.objects.live().descendant_of(section).filter(alias_of=None)[0]\n"
        "print(json.dumps({'id': page.pk, 'title': page.title}))"
    )
    found: dict[str, Any] = json.loads(said[said.index("{") :])
    return found
