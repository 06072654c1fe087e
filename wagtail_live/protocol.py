"""
What may be said on the wire: message types, events, close codes; values in, text out.

The vocabulary is that of Directus's WebSocket messages, with ``cursor``, ``reset`` and ``resume``
added. Does no I/O, knows no Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, Any, Literal, get_args
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from wagtail_live.exceptions import InvalidPayload, LiveError, UnknownType

Event = Literal["create", "update", "delete"]
EVENTS: tuple[str, ...] = get_args(Event)
#: A number is echoed as text.
Uid = Annotated[str, Meta(max_length=200)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

Secret = Annotated[str, Meta(min_length=1, max_length=200)]


class CloseCode(IntEnum):
    """Why the server closed the connection."""

    TOO_LARGE = 1009  #: a message was longer than WAGTAIL_LIVE_MAX_MESSAGE_BYTES
    INTERNAL = 1011  #: the server met a problem; connect again later
    SERVICE_RESTART = 1012  #: the server stops; connect again within reconnect_seconds and resume
    REVOKED = 4401  #: you are not any more who you were, or never said who; connect again
    SILENT = 4408  #: nothing was heard for two heartbeats; connect again and resume
    SLOW_CONSUMER = 4413  #: the client reads too slowly; connect again and resume
    TOO_MANY = 4429  #: too many messages, or too many connections; connect again later and resume


class Auth(Struct, tag="auth", kw_only=True):
    """Say who you are: with an access token, or with a ticket."""

    access_token: Secret | UnsetType = UNSET
    ticket: Secret | UnsetType = UNSET
    uid: Uid | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Hold that there is one of the two."""
        if (self.access_token is UNSET) is (self.ticket is UNSET):
            raise ValueError("It needs an access_token or a ticket, one of them")


class Subscribe(Struct, tag="subscribe", kw_only=True):
    """Follow a collection, or one item of it."""

    collection: Annotated[str, Meta(max_length=200)]
    query: dict[str, Any] | str = {}
    item: int | Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    event: Event | UnsetType = UNSET
    cursor: Annotated[str, Meta(max_length=500)] | UnsetType = UNSET
    uid: Uid | UnsetType = UNSET


class Unsubscribe(Struct, tag="unsubscribe", kw_only=True):
    """Stop following ``uid``, or everything."""

    uid: Uid | UnsetType = UNSET


class Ping(Struct, tag="ping", kw_only=True):
    """Are you there? Answered with ``pong``."""

    uid: Uid | UnsetType = UNSET


class Pong(Struct, tag="pong", kw_only=True):
    """The answer to the server's ``ping``."""


Message = Auth | Subscribe | Unsubscribe | Ping | Pong
TYPES = tuple(str(kind.__struct_config__.tag) for kind in get_args(Message))

HEARTBEAT = ("ping", "pong")

#: What no address may hold.
SECRETS = ("access_token", "ticket", "token")

#: One second more of the time in which clients come back for so many sessions of a process...
SESSIONS_PER_SECOND = 200
#: ...up to so many seconds.
LONGEST_RECONNECT_SECONDS = 30

_decoder = msgspec.json.Decoder(Message)


class TicketRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a ticket shall be for: whose pages, which collections, how long."""

    origin: Annotated[str, Meta(max_length=300)] | None = None
    collections: (
        Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=200)] | None
    ) = None
    seconds: Annotated[int, Meta(ge=1)] | None = None


_ticket_decoder = msgspec.json.Decoder(TicketRequest)


def decode_ticket_request(body: bytes) -> TicketRequest:
    """Return what ``body`` asks for; nothing is all. Raises ``InvalidPayload``."""
    try:
        return _ticket_decoder.decode(body or b"{}")
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise InvalidPayload(f"The request is not valid: {error}.") from None


class _Envelope(Struct):
    type: Any = None
    uid: Any = None


_envelope_decoder = msgspec.json.Decoder(_Envelope)


def decode(text: str) -> Message:
    """Return the message in ``text``, or raise ``InvalidPayload`` or ``UnknownType``."""
    try:
        message: Message = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError, ValueError) as error:
        kind, _ = envelope(text)
        if isinstance(kind, str) and kind not in TYPES:
            raise UnknownType from None
        if isinstance(error, msgspec.ValidationError) and isinstance(kind, str):
            raise InvalidPayload(f"The {kind} message is not valid: {error}.") from None
        raise InvalidPayload from None
    return message


def envelope(text: str) -> tuple[str | None, str | None]:
    """Return the type and uid of ``text`` as far as they can be read, for an error's answer."""
    try:
        found = _envelope_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError, ValueError):
        return None, None
    kind = found.type if isinstance(found.type, str) else None
    readable = isinstance(found.uid, str | int) and not isinstance(found.uid, bool)
    return kind, str(found.uid) if readable else None


def reconnect_seconds(sessions: int) -> int:
    """Return the time within which so many clients should come back after a lost connection."""
    return min(max(1, -(-sessions // SESSIONS_PER_SECOND)), LONGEST_RECONNECT_SECONDS)


def refuse_secrets(address: str) -> None:
    """Raise ``InvalidPayload`` when ``address``, a query string, holds a token or a ticket."""
    named = (name for name, _ in parse_qsl(address, keep_blank_values=True))
    for name in named:
        if name.lower() in SECRETS:
            raise InvalidPayload(
                f"Send no {name} in an address, where logs keep it: send it in an auth message, "
                "or a token in the Authorization header. Take this one for lost and get a new one."
            )


def parameters(address: str) -> dict[str, str]:
    """
    Return the parameters of ``address``, a query string, by name.

    Raises ``InvalidPayload`` when one comes twice or is a secret, or when there are very many.
    """
    refuse_secrets(address)
    try:
        pairs = parse_qsl(address, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise InvalidPayload("There are too many parameters.") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, _ in pairs if [one for one, _ in pairs].count(name) > 1)
        raise InvalidPayload(f"The parameter {twice!r} is there twice.")
    return found


def subscribe_from(found: Mapping[str, str]) -> str:
    """
    Return the ``subscribe`` message with these members; an empty ``cursor`` is none.

    Raises ``InvalidPayload`` for a name that is no member's.
    """
    names = Subscribe.__struct_fields__
    for name in found:
        if name not in names:
            raise InvalidPayload(f"There is no parameter {name!r}. There are {', '.join(names)}.")
    return dumps({"type": "subscribe"} | {k: v for k, v in found.items() if v or k != "cursor"})


class Problem(Struct):
    """What an error frame says for programs."""

    code: str


class Said(Struct):
    """What a transport must know of a frame that it carries."""

    event: str | None = None
    cursor: str | None = None
    error: Problem | None = None

    @property
    def is_news(self) -> bool:
        """Whether it is more than "you have missed nothing"."""
        return self.event != "resume" or self.cursor is None


_said_decoder = msgspec.json.Decoder(Said)


def inspect(frame: str) -> Said:
    """Return what one of our own frames says, without its data."""
    return _said_decoder.decode(frame)


def dumps(value: object) -> str:
    """Return ``value`` as JSON text."""
    return msgspec.json.encode(value).decode()


def subscription(
    event: str,
    *,
    uid: str | None,
    data: str | None = None,
    cursor: str | None = None,
    reset: str | None = None,
    total_count: int | None = None,
    reconnect_seconds: int | None = None,
) -> str:
    """Return a ``subscription`` frame; ``data`` is JSON text already, so rows are encoded once."""
    parts = [f'{{"type":"subscription","event":"{event}"']
    if reset is not None:
        parts.append(f'"reset":{dumps(reset)}')
    if data is not None:
        parts.append(f'"data":{data}')
    if total_count is not None:
        parts.append(f'"meta":{{"total_count":{total_count}}}')
    if uid is not None:
        parts.append(f'"uid":{dumps(uid)}')
    if reconnect_seconds is not None:
        parts.append(f'"reconnect_seconds":{reconnect_seconds}')
    if cursor is not None:
        parts.append(f'"cursor":"{cursor}"')
    return ",".join(parts) + "}"


def error(kind: str | None, problem: LiveError, uid: str | None = None) -> str:
    """
    Return the error frame that answers a message of type ``kind``.

    It is never a ``ping``: that asks for an answer.
    """
    named = kind == "subscription" or (kind in TYPES and kind not in HEARTBEAT)
    frame: dict[str, object] = {
        "type": kind if named else "server",
        "status": "error",
        "error": {"code": problem.code, "message": problem.message},
    }
    if uid is not None:
        frame["uid"] = uid
    return dumps(frame)


def authenticated(uid: str | None) -> str:
    """Return the answer to an ``auth`` that counts."""
    return dumps({"type": "auth", "status": "ok"} | ({} if uid is None else {"uid": uid}))


def pong(uid: str | int | UnsetType) -> str:
    """Return the answer to a client's ``ping``."""
    return dumps({"type": "pong"} if uid is UNSET else {"type": "pong", "uid": str(uid)})


PING = dumps({"type": "ping"})
