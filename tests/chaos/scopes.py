"""What the clients follow and who may see what: the site's rules, told once more and simply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Which restrictions an asker passes.
PASSES: Mapping[str, frozenset[str | None]] = {
    "public": frozenset({None}),
    "member": frozenset({None, "login", "groups"}),
}
PAGES = frozenset({"article", "section", "home"})
KINDS: Mapping[str, frozenset[str]] = {
    "pages": PAGES,
    "notices": frozenset({"notice"}),
    "authors": frozenset({"author"}),
    "images": frozenset({"image"}),
}
State = Mapping[str, Any]
Objects = Mapping[str, State]


@dataclass(frozen=True)
class Scope:
    """One query: how it is asked, and which objects it holds."""

    name: str
    collection: str
    kinds: frozenset[str]
    query: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    item: str | None = None

    def request(self) -> dict[str, Any]:
        """Return the members of `subscribe`."""
        asked: dict[str, Any] = {"collection": self.collection, "query": dict(self.query)}
        if self.item is not None:
            asked["item"] = int(self.item.partition(":")[2])
        return asked

    def holds(self, key: str, objects: Objects, asker: str) -> bool | None:
        """Return whether ``asker`` finds the object here; None when that is not known."""
        state = objects.get(key)
        if state is None or state["kind"] not in self.kinds or self.item not in {None, key}:
            return False
        if self.parent is not None and state["parent"] != self.parent:
            return False
        above = objects.get(state["parent"] or "", {})
        if not {state["restricted"], above.get("restricted")} <= PASSES[asker]:
            return False
        live: bool | None = state["live"]
        return live


def everything(collection: str) -> Scope:
    """Return all that a collection can hold."""
    return Scope(f"all {collection}", collection, KINDS[collection])


def scopes(objects: Objects) -> dict[str, Scope]:
    """Return all scopes of the world that ``objects`` begin."""
    by_slug = {state["slug"]: key for key, state in objects.items() if "slug" in state}
    first = {
        slug: next(key for key, state in objects.items() if state["parent"] == section)
        for slug, section in by_slug.items()
    }

    def number(key: str) -> int:
        return int(key.partition(":")[2])

    titles = {"fields": "title", "limit": 100}
    articles = {"type": "newsroom.ArticlePage", **titles}
    article = KINDS["pages"] & {"article"}
    notice, author, image = (KINDS[name] for name in ("notices", "authors", "images"))
    made = [
        Scope("articles", "pages", article, articles),
        Scope("pages", "pages", PAGES, titles),
        *(
            Scope(
                f"children of {slug}",
                "pages",
                PAGES,
                {**titles, "child_of": number(by_slug[slug])},
                parent=by_slug[slug],
            )
            for slug in ("b0", "b1", "a2")
        ),
        *(
            Scope(f"item of {slug}", "pages", article, {"fields": "title"}, item=first[slug])
            for slug in ("a0", "b1")
        ),
        Scope("notices", "notices", notice, {"fields": "text", "limit": 100}),
        Scope("authors", "authors", author, {"fields": "name", "limit": 100}),
        Scope("images", "images", image, {"fields": "title", "limit": 100}),
    ]
    return {scope.name: scope for scope in made}
