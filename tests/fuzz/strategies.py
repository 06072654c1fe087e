"""What nobody expects, for Hypothesis: what was kept from earlier runs, bent, and new things."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

#: What has broken parsers, comparisons, columns and logs before.
NASTY = (
    "",
    "0",
    "-1",
    "9" * 25,
    "9" * 5000,
    "1e999",
    "NaN",
    "-Infinity",
    "null",
    "true",
    "\x00",
    "\\u0000",
    "\\ud800",
    "\ud800",
    "\u202e",
    "\u2028",
    "\N{PILE OF POO}",
    "__proto__",
    "constructor",
    "__class__",
    "password",
    "author__name",
    "author__portrait__file",
    "owner",
    "-owner__password",
    "%",
    "%00",
    "%s",
    "{0.__class__}",
    "' OR 1=1 --",
    "../../etc/passwd",
    "*",
    "_",
    "_,id",
    "*(*)",
    "-*,author(",
    "author(name,author(author(*)))",
    "(" * 300,
    "[" * 3000,
    '{"a":' * 3000,
    "random",
    "root",
    "x" * 70_000,
    "2026-02-30",
    "2026-11-22T25:00:00Z",
)
COLLECTIONS = ("pages", "images", "documents", "authors", "categories", "notices", "none", "")
PARAMETERS = (
    *("fields", "order", "limit", "offset", "type", "locale", "site", "search", "format"),
    *("child_of", "descendant_of", "ancestor_of", "translation_of", "search_operator", "_"),
    *("id", "title", "slug", "author", "date", "categories", "tags", "image", "body", "lead"),
    *("live", "level", "active", "name", "text", "width", "collection", "owner", "password"),
)
MEMBERS = (
    *("type", "collection", "query", "item", "event", "cursor", "uid", "access_token", "ticket"),
    *("__proto__", "preview", "wait"),
)
TYPES = ("auth", "subscribe", "unsubscribe", "ping", "pong", "items", "", "__proto__")

_texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=40), st.integers().map(str))
_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), _texts, st.sampled_from(COLLECTIONS)
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=8,
)
_queries = st.dictionaries(
    st.sampled_from(PARAMETERS) | _texts,
    st.one_of(_texts, st.integers(-3, 200), st.booleans(), st.lists(_texts, max_size=3), _values),
    max_size=4,
)
_messages = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional=dict.fromkeys(MEMBERS[1:], _values),
) | st.fixed_dictionaries(
    {
        "type": st.just("subscribe"),
        "collection": st.sampled_from(COLLECTIONS),
        "query": _queries | _texts,
    },
    optional={"item": _values, "uid": _texts | st.integers(), "cursor": _texts},
)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_pairs = st.tuples(st.sampled_from(MEMBERS) | _texts, _texts | _queries.map(_dumps))
_addresses = st.lists(_pairs, max_size=5).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
#: By target: what is made anew.
NEW: dict[str, st.SearchStrategy[str]] = {
    "frames": st.lists(_messages.map(_dumps) | _texts, min_size=1, max_size=4).map("\n".join),
    "filters": st.tuples(st.sampled_from(COLLECTIONS), _queries).map(_dumps),
    "cursors": _texts,
    "credentials": _texts,
    "addresses": _addresses,
    "tickets": st.dictionaries(
        st.sampled_from(("origin", "collections", "seconds")) | _texts,
        _values | st.integers(1, 9999) | st.just("http://localhost") | st.just(["pages"]),
        max_size=4,
    ).map(_dumps)
    | _texts,
    "bodies": st.lists(_messages | _values, max_size=4).map(_dumps) | _texts,
}


def inputs(target: str, kept: list[str]) -> st.SearchStrategy[str]:
    """Return texts for ``target``: new ones, and those that were ``kept``, bent."""
    if not kept:
        return NEW[target]
    return NEW[target] | _bent(st.sampled_from(kept))


@st.composite
def _bent(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    text = draw(texts)
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, min(len(text), 2000)))
        end = begin + draw(st.integers(0, 12))
        text = text[:begin] + draw(st.sampled_from((*NASTY, text[begin:end] * 2))) + text[end:]
    return text
