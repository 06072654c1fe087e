"""Short marks in the demo's text files, turned into StreamField data."""

import re
from collections.abc import Callable
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from django.utils.html import escape

PICTURE = re.compile(r"\[(?P<caption>.+)\]\((?P<picture>\w+ \w+)\)")

Lookup = Callable[
    [str, str], int
]  # a kind ("author", "notice", "illustration") and a key give an id


def stream(name: str, text: str, lookup: Lookup) -> list[dict[str, Any]]:
    """Return the blocks of ``text``; their ids follow from ``name``."""
    parts = [part for part in text.strip().split("\n\n") if part]
    return [
        {"id": str(uuid5(NAMESPACE_URL, f"{name}#{number}")), **_block(part, lookup)}
        for number, part in enumerate(parts)
    ]


def paragraph(html: str) -> dict[str, Any]:
    return {"type": "paragraph", "value": f"<p>{html}</p>"}


def _block(part: str, lookup: Lookup) -> dict[str, Any]:
    mark, rest = part[0], part[1:].strip()
    if mark == "#":
        return {"type": "heading", "value": rest.lstrip("# ")}
    if mark == ">":
        words, _, speaker = rest.partition(" -- ")
        return {"type": "quote", "value": {"text": words, "attribution": speaker}}
    if mark == "@":
        return {"type": "author", "value": lookup("author", rest)}
    if mark == "!":
        return {"type": "notice", "value": lookup("notice", rest)}
    if found := PICTURE.fullmatch(part):
        image = lookup("illustration", found["picture"])
        return {"type": "picture", "value": {"image": image, "caption": found["caption"]}}
    return paragraph(re.sub(r"\*([^*]+)\*", r"<i>\1</i>", escape(part).replace("\n", " ")))
