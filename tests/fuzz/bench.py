"""A site on a bench: one text goes in by every door that takes it, what happens is named."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Self
from urllib.parse import quote

from asgiref.sync import ThreadSensitiveContext
from django.core.handlers.asgi import ASGIHandler

from tests.live import end
from tests.streams import OWN, Stream
from wagtail_live.testing import Closed, LiveClient, Refused

#: So long may an answer take on a machine that has other things to do.
SECONDS = 60.0


class Finding(AssertionError):
    """Something that no input may bring about."""


class Bench:
    """
    Runs targets on an event loop of its own. Raises ``Finding`` for an answer that says it was our
    fault, for anything in a log that says so, and for what does not end.
    """

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._complaints = _Complaints()
        logging.getLogger().addHandler(self._complaints)
        return self

    def __exit__(self, *details: object) -> None:
        logging.getLogger().removeHandler(self._complaints)
        self._runner.run(end())
        self._runner.close()

    def run(self, target: str, text: str) -> frozenset[str]:
        """Return what happened to ``text``: in words that are the same for the same thing."""
        try:
            happened = self._runner.run(_within(TARGETS[target](text)))
        except TimeoutError:
            raise Finding(f"no end within {SECONDS:.0f} s") from None
        said, self._complaints.said = self._complaints.said, []
        if said:
            raise Finding("a log says: " + "\n".join(said))
        for outcome in happened:
            if re.search(r"INTERNAL_ERROR|closed 1011|status 50[0-24-9]", outcome):
                raise Finding(outcome)
        return frozenset(happened)


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


async def _within(work: Awaitable[list[str]]) -> list[str]:
    async with asyncio.timeout(SECONDS):
        return await work


#: An API token of somebody who is known, where there are any.
token: ContextVar[str] = ContextVar("token", default="")

# The doors


async def frames(text: str) -> list[str]:
    """Say each line on a socket; one that begins with a NUL as a binary frame."""
    lines = text.split("\n")
    return await _on_socket(
        line[1:].encode(errors="replace") if line.startswith("\x00") else line for line in lines
    )


async def filters(text: str) -> list[str]:
    """Follow a collection with a query on a socket, and ask the change feed for the same."""
    try:
        collection, query = json.loads(text)
    except (ValueError, RecursionError):  # bent: a query string then
        collection, query = "pages", text
    message = json.dumps({"type": "subscribe", "collection": collection, "query": query})
    found = await _on_socket([message])
    if isinstance(query, dict):
        query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in query.items())
    address = f"collection={_quoted(collection)}&query={_quoted(query)}"
    return [*found, *await _get(address)]


async def cursors(text: str) -> list[str]:
    """Come back with a cursor, by every transport."""
    message = {"type": "subscribe", "collection": "notices", "cursor": text}
    header = text.encode("latin-1", errors="replace").replace(b"\n", b"").replace(b"\r", b"")
    return [
        *await _on_socket([json.dumps(message)]),
        *await _stream("collection=notices", (b"last-event-id", header)),
        *await _get(f"collection=notices&cursor={_quoted(text)}"),
    ]


async def credentials(text: str) -> list[str]:
    """Say who you are, by message and by header."""
    header = text.encode("latin-1", errors="replace").replace(b"\n", b"").replace(b"\r", b"")
    said = [{"type": "auth", name: text} for name in ("access_token", "ticket")]
    bearer = (b"authorization", b"Bearer " + header)
    return [
        *await _on_socket([*map(json.dumps, said), _NOTICES]),
        *await _on_socket([_NOTICES], bearer),
        *await _on_socket([_NOTICES], (b"cookie", b"sessionid=" + header)),
        *await _on_socket([_NOTICES], (b"authorization", header)),
        *await _stream("collection=notices", bearer),
        *await _get("collection=notices", bearer),
    ]


async def addresses(text: str) -> list[str]:
    """Ask with a query string, for a stream and for a page of changes."""
    address = text.encode("utf-8", errors="replace").decode("latin-1")
    return [*await _stream(address), *await _get(address)]


async def bodies(text: str) -> list[str]:
    """Post messages for a stream."""
    return await _stream("", body=text.encode("utf-8", errors="replace"))


async def tickets(text: str) -> list[str]:
    """Ask for a ticket with this body: as nobody, and as a program with a token."""
    body = text.encode("utf-8", errors="replace")
    length = (b"content-length", b"%d" % len(body))
    lying = (b"content-length", text[:20].encode("latin-1", errors="replace"))
    found = []
    bearer = (b"authorization", f"Bearer {token.get()}".encode())
    for headers in ([length], [length, bearer], [lying, bearer]):
        found += await _ask("/live/ticket/", "", *headers, method="POST", body=body)
    return found


TARGETS: dict[str, Callable[[str], Awaitable[list[str]]]] = {
    target.__name__: target
    for target in (frames, filters, cursors, credentials, addresses, bodies, tickets)
}
_NOTICES = json.dumps({"type": "subscribe", "collection": "notices"})


async def _on_socket(messages: Iterable[str | bytes], *headers: tuple[bytes, bytes]) -> list[str]:
    found = []
    try:
        async with LiveClient(headers=headers) as client:
            try:
                for message in messages:
                    client.say(message)
                await _joined()
                client.say({"type": "ping", "uid": "the end"})
                while (frame := await client.hear(seconds=SECONDS)).get("uid") != "the end":
                    found.append(_named(frame))
            except Closed as closed:
                found.append(f"closed {closed.code}")
    except Refused:
        found.append("refused")
    return found


async def _stream(address: str, *headers: tuple[bytes, bytes], body: Any = None) -> list[str]:
    stream = Stream("", body=body, headers=[OWN, *headers])
    stream.scope["query_string"] = address.encode("latin-1", errors="replace")
    async with stream:
        if stream.status != 200:
            await stream.until_complete()
            return [f"status {stream.status}", _named(stream.answer)]
        await _joined()
        return [_named(frame) for frame in stream.unread()]


async def _get(address: str, *headers: tuple[bytes, bytes]) -> list[str]:
    return await _ask("/live/changes/", address, *headers)


async def _ask(
    path: str,
    address: str,
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    body: bytes = b"",
) -> list[str]:
    """Return what a view answers: through all of Django, as a server calls it."""
    scope = Stream("", headers=headers, method=method).scope | {
        "path": path,
        "query_string": address.encode("latin-1", errors="replace"),
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asked = iter([{"type": "http.request", "body": body}])

    async def receive() -> Any:
        return next(asked, None) or await asyncio.Future()

    async with ThreadSensitiveContext():
        await _application(scope, receive, send)
    start, *rest = sent
    if start["status"] == 500:
        return ["status 500"]
    page = json.loads(b"".join(message.get("body", b"") for message in rest))
    found = [_named(frame) for frame in page["frames"]] if "frames" in page else [_named(page)]
    return [f"status {start['status']}", *found]


_application = ASGIHandler()


def _quoted(value: Any) -> str:
    return quote(str(value), errors="replace")


async def _joined() -> None:
    """Return when no subscription waits for its answer."""
    while any(
        getattr(task.get_coro(), "__qualname__", "") == "Session._join"
        for task in asyncio.all_tasks()
    ):
        await asyncio.sleep(0.001)


def _named(frame: Any) -> str:
    if "error" in frame:
        words = re.sub(r"\d+", "0", frame["error"]["message"])
        words = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "...", words)
        return f"{frame['type']} {frame['error']['code']} {words[:80]}"
    return " ".join(str(frame[name]) for name in ("type", "event", "reset") if name in frame)
