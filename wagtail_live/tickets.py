"""
Tickets: one-use words by which a page of another origin says on whose behalf it connects.

Whoever has a session or an access token fetches one and hands it to the page; the page's connection
redeems it within seconds, and is then who asked for it, for as long as what it was asked for with
lasts. The only module that touches their table. Blocking.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet
from django.db import router
from django.db.models import Q, QuerySet
from django.utils import timezone

from wagtail_live import access_tokens
from wagtail_live.exceptions import InvalidCredentials, RateLimited, TokenExpired
from wagtail_live.models import Ticket

#: How long a ticket waits to be redeemed.
REDEEM_SECONDS = 30
#: How long a connection is who its ticket says, unless it was asked for less.
LONGEST_SECONDS = 8 * 3600
#: So many a user may ask for within a minute.
PER_MINUTE = 60
#: How long one that nobody redeemed is remembered, to say that it came too late.
FORGET_SECONDS = 3600


def issue(
    user: Any,
    *,
    session: str = "",
    token: int | None = None,
    origin: str = "",
    collections: Iterable[str] | None = None,
    seconds: int = LONGEST_SECONDS,
) -> str:
    """
    Return a new ticket for ``user``; only hashes of it stay here.

    ``session`` is the key of the session that asks, ``token`` the id of the access token: what ends
    these ends the ticket. ``origin`` is that of the page that may redeem it, empty for a client
    that is no page. ``seconds`` bounds how long it counts.

    Raises ``RateLimited`` when the user has asked for very many.
    """
    now = timezone.now()
    recent = _rows().filter(user=user, created_at__gt=now - timedelta(minutes=1))
    if recent.count() >= PER_MINUTE:
        raise RateLimited
    text = secrets.token_urlsafe(32)
    _rows().create(
        key_hash=_hash(text),
        user=user,
        session=_cipher(text).encrypt(session.encode()).decode() if session else "",
        token=token,
        origin=origin,
        collections=None if collections is None else sorted(set(collections)),
        created_at=now,
        redeem_by=now + timedelta(seconds=REDEEM_SECONDS),
        ends_at=now + timedelta(seconds=min(seconds, LONGEST_SECONDS)),
    )
    return text


def redeem(text: str, *, origin: str, holder: UUID) -> tuple[Ticket, str]:
    """
    Return the ticket with this text, and the key of the session that asked for it or nothing.

    The first ``holder`` that comes in time and from the right ``origin`` has it, and may come
    again; nobody else. Raises ``InvalidCredentials`` or ``TokenExpired``.
    """
    # Found by its hash: how long that takes tells nothing about the ticket.
    found = _rows().filter(key_hash=_hash(text))
    ticket = found.select_related("user").first()
    if ticket is None or ticket.origin != origin or not ticket.user.is_active:
        raise InvalidCredentials
    now = timezone.now()
    if ticket.holder is None:
        # One statement: of two who come at once, in whatever process, one is first.
        found.filter(holder=None, redeem_by__gt=now).update(holder=holder)
        ticket.refresh_from_db(fields=["holder"])
    if now >= ticket.ends_at or ticket.holder is None:
        raise TokenExpired
    if ticket.holder != holder:
        raise InvalidCredentials("This ticket has been used: each is good once. Get a new one.")
    session = ticket.session and _cipher(text).decrypt(ticket.session.encode()).decode()
    return ticket, session


def prune() -> int:
    """Delete the tickets that count no longer; return how many."""
    now = timezone.now()
    late = Q(holder=None, redeem_by__lte=now - timedelta(seconds=FORGET_SECONDS))
    return _rows().filter(Q(ends_at__lte=now) | late).delete()[0]


def token_behind(auth: object) -> int | None:
    """Return the id of the access token that ``auth`` is or, a ticket, was asked for with."""
    return auth.token if isinstance(auth, Ticket) else access_tokens.number(auth)


def collections_of(auth: object) -> tuple[str, ...] | None:
    """Return the names of the collections that ``auth`` opens; None for all."""
    if isinstance(auth, Ticket) and auth.collections is not None:
        return tuple(auth.collections)
    return None


def _rows() -> QuerySet[Ticket]:
    # Not from a replica, which may not know yet that a ticket was used.
    return Ticket.objects.using(router.db_for_write(Ticket))


def _hash(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()


def _cipher(text: str) -> Fernet:
    """Return the cipher whose key is the ticket: without it nobody reads the session's key."""
    key = hashlib.sha256(b"wagtail_live.ticket.session:" + _bytes(text)).digest()
    return Fernet(base64.urlsafe_b64encode(key))


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")
