"""No page of the package or of the example holds inline script: a strict CSP breaks none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "wagtail_live", ROOT / "example_project")
PAGES = sorted(path for folder in FOLDERS for path in folder.rglob("*.html"))
SOURCES = sorted(
    path
    for folder in FOLDERS
    for suffix in ("*.js", "*.py")
    for path in folder.rglob(suffix)
    if "var" not in path.parts
)
#: A script without an address, an attribute that is code, an address that is.
INLINE = re.compile(
    r"<script\b(?![^>]*\b(?:src=|type=\"(?:application/json|importmap)\"))|"
    r"<\w[^>]*\son[a-z]+\s*=|javascript:|<style\b|<\w[^>]*\sstyle\s*=",
    re.IGNORECASE,
)
#: What makes code of text.
EVALUATED = re.compile(
    r"\beval\(|new Function\(|document\.write|insertAdjacentHTML|outerHTML\s*=|setTimeout\([\"']"
)


def test_there_are_pages() -> None:
    assert PAGES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_has_no_inline_script_and_no_inline_style(path: Path) -> None:
    assert INLINE.findall(path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_writes_inline_script_or_makes_code_of_text(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"<script>|\sonclick=|\sonload=|\sonerror=", text) == []
    assert EVALUATED.findall(text) == []


@pytest.mark.parametrize(
    "html",
    [
        "<script>ran()</script>",
        '<script type="module">ran()</script>',
        '<img src="x" onerror="ran()">',
        '<a href="javascript:ran()">',
        '<p style="color: red">',
    ],
)
def test_inline_script_is_found_where_there_is_some(html: str) -> None:
    assert INLINE.findall(html)


def test_a_script_with_an_address_is_not_inline() -> None:
    assert INLINE.findall('<script type="module" src="/x.js" data-url="/w"></script>') == []
