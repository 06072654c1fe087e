"""
Makes the pictures of the README and the docs again, from the running demo.

    python docs/make_pictures.py

Starts the demo on ports and in a folder of its own, publishes in the admin beside the front page,
and writes docs/images/before.png, publish.png, phone.png and access-rule.png. Needs Chromium.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PORT, FRONTEND_PORT = 18080, 18081
CMS, FRONTEND = f"http://localhost:{PORT}", f"http://localhost:{FRONTEND_PORT}"
HEADLINE = "Old tram is back, and full by nine"

EDITOR = {"width": 980, "height": 720}
FRONT = {"width": 560, "height": 720}
PHONE = {"width": 390, "height": 780}
FORM = {"width": 1180, "height": 900}
BAR, GAP = 34, 16
INK, GROUND, CHROME = "#4b4b55", "#d9d6cf", "#f1efea"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        demo = start_demo(Path(folder))
        try:
            with sync_playwright() as playwright:
                chromium = shutil.which("chromium") or shutil.which("google-chrome")
                make(playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]))
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.wait(30)


def start_demo(folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PORT": str(PORT),
        "FRONTEND_PORT": str(FRONTEND_PORT),
        "NEWSROOM_VAR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder / 'demo.sqlite3'}",
    }
    demo = subprocess.Popen([sys.executable, "example_project/demo.py"], cwd=ROOT, env=environment)
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and demo.poll() is None:
        try:
            for address in (FRONTEND, f"{CMS}/api/v2/pages/?limit=1"):
                urllib.request.urlopen(address, timeout=10).close()  # noqa: S310 - our own
        except OSError:
            time.sleep(0.5)
        else:
            return demo
    sys.exit("The demo did not start; its message is above.")


def make(browser: Browser) -> None:
    front = opened(browser, FRONT, FRONTEND)
    phone = opened(browser, PHONE, FRONTEND, scale=2)
    editor = browser.new_page(viewport=EDITOR)
    editor.route("**/*gravatar.com/**", give_avatar)
    sign_in(editor)
    article = front.locator("#stories > li").first.get_attribute("data-id")
    editor.goto(f"{CMS}/admin/pages/{article}/edit/")
    title = editor.locator("#id_title")
    title.fill(HEADLINE)
    hide_side_panels(editor)
    title.press("Home")
    editor.wait_for_timeout(1500)
    save("before.png", beside(editor, front))

    publish(editor)
    expect(front.locator(f"#stories > li[data-id='{article}'] h2")).to_have_text(HEADLINE)
    hide_side_panels(editor)
    editor.wait_for_timeout(600)
    save("publish.png", beside(editor, front))

    expect(phone.locator(f"#stories > li[data-id='{article}'] h2")).to_have_text(HEADLINE)
    phone.wait_for_timeout(3000)
    save("phone.png", Image.open(BytesIO(phone.screenshot())))
    save("access-rule.png", Image.open(BytesIO(rule_form(browser).screenshot())))
    browser.close()


def rule_form(browser: Browser) -> Page:
    form = browser.new_page(viewport=FORM, color_scheme="light")
    form.route("**/*gravatar.com/**", give_avatar)
    sign_in(form, "admin")
    form.goto(f"{CMS}/admin/live-access/new/")
    form.locator("[name=who]").select_option("group")
    form.locator("[name=group]").select_option(label="Editors")
    form.locator("[name=collection]").select_option("authors")
    for name in ("name", "role"):
        form.get_by_role("checkbox", name=name, exact=True).check()
    form.locator("[name=collection]").scroll_into_view_if_needed()
    return form


def opened(browser: Browser, viewport: dict[str, int], url: str, scale: int = 1) -> Page:
    page = browser.new_page(viewport=viewport, device_scale_factor=scale, color_scheme="light")
    page.goto(url)
    expect(page.locator("#status")).to_have_attribute("data-state", "connected")
    expect(page.locator("#stories > li").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    return page


def sign_in(editor: Page, name: str = "moderator") -> None:
    editor.goto(f"{CMS}/admin/login/")
    editor.fill("[name=username]", name)
    editor.fill("[name=password]", "newsroom-demo")
    editor.click("[type=submit]")
    expect(editor).to_have_url(f"{CMS}/admin/")


def hide_side_panels(editor: Page) -> None:
    toggle = editor.locator("[data-side-panel-toggle][aria-expanded='true']")
    if toggle.count():
        toggle.first.click()


def publish(editor: Page) -> None:
    button = editor.locator("[name=action-publish]").first
    if not button.is_visible():
        editor.locator("footer [data-w-dropdown-target='toggle']").last.click()
    button.click()
    editor.wait_for_load_state("networkidle")


def give_avatar(route: Route) -> None:
    """Draw the user's picture here: the demo works without the internet."""
    circle = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2"><circle cx="1" cy="1" r="1" '
    )
    route.fulfill(content_type="image/svg+xml", body=f'{circle} fill="#b8a9d9"/></svg>')


def beside(*pages: Page) -> Image.Image:
    """Return the windows side by side, each under a bar with its address."""
    shots = [Image.open(BytesIO(page.screenshot())) for page in pages]
    width = sum(shot.width + GAP for shot in shots) + GAP
    sheet = Image.new("RGB", (width, shots[0].height + BAR + 2 * GAP), GROUND)
    draw = ImageDraw.Draw(sheet)
    left = GAP
    for page, shot in zip(pages, shots, strict=True):
        draw.rectangle((left, GAP, left + shot.width - 1, GAP + BAR - 1), CHROME)
        for x in range(left + 18, left + 60, 18):
            draw.ellipse((x - 5, GAP + BAR / 2 - 5, x + 5, GAP + BAR / 2 + 5), "#c9c4ba")
        address = page.url.partition("//")[2]
        for mine, usual in ((PORT, 8000), (FRONTEND_PORT, 3000)):
            address = address.replace(str(mine), str(usual))
        draw.text((left + 80, GAP + BAR / 2), address, INK, anchor="lm", font_size=15)
        sheet.paste(shot, (left, GAP + BAR))
        left += shot.width + GAP
    return sheet


def save(name: str, image: Image.Image) -> None:
    image.convert("RGB").save(IMAGES / name, optimize=True)
    print(f"docs/images/{name}: {(IMAGES / name).stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
