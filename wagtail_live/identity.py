"""
Who an asker is now, told from what the client brought: cookies, an access token or a ticket.

May be asked again and again for the same connection, and reads everything anew each time. Knows no
transport. Blocking, but for ``credentials`` and ``key``.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Any, cast
from uuid import UUID, uuid4

from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from msgspec import UNSET

from wagtail_live import access_tokens, conf, tickets
from wagtail_live.exceptions import InvalidCredentials
from wagtail_live.policy import Policy
from wagtail_live.protocol import Auth


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    What a client brought beside its cookies; its secrets show in no log.

    ``access_token`` is the text of a Wagtail ``APIToken``; ``ticket`` that of a ticket, ``holder``
    the connection that redeems it: asked for again it must be the same.
    """

    access_token: str | None = field(default=None, repr=False)
    ticket: str | None = field(default=None, repr=False)
    holder: UUID | None = None

    def __bool__(self) -> bool:
        """Whether there is anything: then cookies do not count."""
        return self.access_token is not None or self.ticket is not None


def credentials(request: HttpRequest) -> Credentials:
    """Return what ``request`` brought in its ``Authorization`` header; only ``Bearer`` is ours."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return Credentials(access_token=token.strip() if scheme.lower() == "bearer" else None)


def presented(message: Auth) -> Credentials:
    """Return what ``message`` brought; a ticket is for a new holder."""
    if message.ticket is not UNSET:
        return Credentials(ticket=message.ticket, holder=uuid4())
    return Credentials(access_token=None if message.access_token is UNSET else message.access_token)


def key(request: HttpRequest, brought: Credentials) -> Hashable | None:
    """
    Return what all have in common who ask as ``request`` does and are the same to a policy, or None
    for who may be like nobody else to a policy of the site's own.
    """
    if any(policy.audience is not Policy.audience for policy in conf.policies()):
        return None
    name, _ = conf.session_cookie()
    return request.get_host(), request.get_port(), brought or request.COOKIES.get(name)


def identify(request: HttpRequest, brought: Credentials) -> HttpRequest:
    """
    Return a copy of ``request`` with ``session``, ``user`` and ``auth`` as they are now.

    ``auth`` is the ``APIToken`` or the ``Ticket`` that was used, or None: then the cookies said who
    it is. Raises ``InvalidCredentials`` or ``TokenExpired`` when what was ``brought`` does not
    count, or no longer.
    """
    # Nothing that was looked up earlier is on the copy: not the user, not Wagtail's site.
    asker: Any = copy.copy(request)
    asker.auth = None
    asker.session = _ReadSession()
    asker.user = AnonymousUser()
    if brought.ticket is not None and brought.holder is not None:
        _by_ticket(asker, brought.ticket, brought.holder)
    elif brought.access_token is not None:
        asker.auth = access_tokens.find(brought.access_token)
        asker.user = asker.auth.user
    else:
        name, _ = conf.session_cookie()
        _by_session(asker, request.COOKIES.get(name))
    return cast("HttpRequest", asker)


def ends_at(asker: Any) -> datetime | None:
    """Return when ``asker`` ends to be who that is, as far as that is known beforehand."""
    ends = [getattr(asker.auth, "ends_at", None), _session_ends_at(asker.session.session_key)]
    return min((one for one in ends if one is not None), default=None)


def _session_ends_at(key: str | None) -> datetime | None:
    """Return when a session ends that a table keeps."""
    _, engine = conf.session_cookie()
    store: Any = import_module(engine).SessionStore
    if key is None or not hasattr(store, "get_model_class"):
        return None
    rows = store.get_model_class()._base_manager.filter(session_key=key)
    found: datetime | None = rows.values_list("expire_date", flat=True).first()
    return found


def _by_ticket(asker: Any, text: str, holder: UUID) -> None:
    """Be who asked for the ticket, as long as what it was asked for with counts."""
    origin = asker.headers.get("origin", "").lower()
    ticket, session = tickets.redeem(text, origin=origin, holder=holder)
    asker.auth = ticket
    if session:
        _by_session(asker, session)
    elif ticket.token is not None:
        asker.user = access_tokens.get(ticket.token).user
    if asker.user != ticket.user:
        raise InvalidCredentials


def _by_session(asker: Any, key: str | None) -> None:
    _, engine = conf.session_cookie()
    if key:
        asker.session = _ReadSession(import_module(engine).SessionStore(key).items())
        asker.session.session_key = key if asker.session else None
    if asker.session:
        asker.user = get_user(asker)


class _ReadSession(dict[str, Any]):
    """
    What a session holds, to read. ``get_user`` gives a session of an older ``SECRET_KEY`` a new
    key and deletes one that it refuses: a WebSocket has no way to hand the browser a new cookie,
    so that would sign people out.
    """

    session_key: str | None = None

    def cycle_key(self) -> None:
        """Keep the key."""

    def flush(self) -> None:
        """Forget what was read; the stored session stays for a request to judge."""
        self.clear()
