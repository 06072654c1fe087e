"""What a client holds of one subscription, made of its frames as the manual says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

VERSION = re.compile(r"v(\d+)\b")
Row = dict[str, Any]


def version(row: Row) -> int:
    """Return the version that a row's words begin with."""
    for name in ("title", "text", "name"):
        if name in row and (found := VERSION.match(row[name])):
            return int(found[1])
    return 0


@dataclass
class View:
    """The rows by key, and the newest cursor."""

    collection: str
    rows: dict[str, Row] = field(default_factory=dict)
    cursor: str | None = None
    has_base: bool = False

    def key(self, number: object) -> str:
        return f"{self.collection}:{number}"

    def rows_of(self, frame: dict[str, Any]) -> list[tuple[str, Row]]:
        """Return the rows that a frame tells, by key."""
        data = frame.get("data") or []
        if frame["event"] == "delete":
            return []
        listed = data if isinstance(data, list) else [data]
        return [(self.key(row["id"]), row) for row in listed]

    def gone_in(self, frame: dict[str, Any]) -> list[str]:
        """Return the keys that a frame takes away."""
        return [self.key(key) for key in frame["data"]] if frame["event"] == "delete" else []

    def apply(self, frame: dict[str, Any]) -> None:
        """Take one `subscription` frame."""
        if frame["event"] == "init":
            self.rows = {}
            self.has_base = True
        self.rows.update(self.rows_of(frame))
        for key in self.gone_in(frame):
            self.rows.pop(key, None)
        self.cursor = frame.get("cursor", self.cursor)

    def forget(self) -> None:
        """The subscription was refused or has ended: nothing is held any more."""
        self.rows, self.cursor, self.has_base = {}, None, False


class Holding:
    """A view kept up to date from a client's journal while the run goes on."""

    def __init__(self, collection: str) -> None:
        self.view = View(collection)
        self._at: dict[str, dict[str, Row]] = {}

    def take(self, record: dict[str, Any]) -> None:
        """Follow one record."""
        if record["kind"] == "ask":
            self.view.has_base = record["cursor"] is not None
            self.view.rows = self._at.get(record["cursor"], self.view.rows)
        elif record["kind"] == "frame":
            frame = record["frame"]
            if frame.get("status") == "error":
                self.view.forget()
            elif frame["event"] != "unsubscribe":
                self.view.apply(frame)
                if "cursor" in frame:
                    self._at[frame["cursor"]] = dict(self.view.rows)
