"""
Who an asker is now, told from what the client brought: the cookies that count, or an access token.

May be asked again and again for the same connection, and reads everything anew each time. Knows no
transport. Blocking, but for ``credentials`` and ``anonymity``.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest

from wagtail_live import access_tokens, conf
from wagtail_live.policy import Policy

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    What a client brought beside its cookies; nothing of it shows in a log.

    ``access_token`` is the text of a Wagtail ``APIToken``.
    """

    access_token: str | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        """Whether there is anything: then cookies do not count."""
        return self.access_token is not None


def credentials(request: HttpRequest) -> Credentials:
    """Return what ``request`` brought in its ``Authorization`` header; only ``Bearer`` is ours."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return Credentials(access_token=token.strip() if scheme.lower() == "bearer" else None)


def anonymity(request: HttpRequest, brought: Credentials) -> Hashable | None:
    """
    Return what all have in common who ask as ``request`` does and are nobody, or None for who is
    somebody, or may be for a policy of the site's own.
    """
    name, _ = conf.session_cookie()
    if brought or name in request.COOKIES:
        return None
    if any(policy.audience is not Policy.audience for policy in conf.policies()):
        return None
    return request.get_host(), request.get_port()


def identify(request: HttpRequest, brought: Credentials) -> HttpRequest:
    """
    Return a copy of ``request`` with ``session``, ``user`` and ``auth`` as they are now.

    ``auth`` is the ``APIToken`` that was used, or None: then the cookies said who it is. Raises
    ``InvalidCredentials`` when what was ``brought`` does not count, or no longer.
    """
    # Nothing that was looked up earlier is on the copy: not the user, not Wagtail's site.
    asker: Any = copy.copy(request)
    if brought:
        asker.session = cast("SessionBase", _ReadSession())
        asker.auth = access_tokens.find(brought.access_token or "")
        asker.user = asker.auth.user
    else:
        asker.session = _read_session(request)
        asker.auth = None
        asker.user = get_user(asker) if asker.session else AnonymousUser()
    return cast("HttpRequest", asker)


def _read_session(request: HttpRequest) -> SessionBase:
    name, engine = conf.session_cookie()
    key = request.COOKIES.get(name)
    found = _ReadSession(import_module(engine).SessionStore(key).items() if key else ())
    return cast("SessionBase", found)


class _ReadSession(dict[str, Any]):
    """
    What a session holds, to read. ``get_user`` gives a session of an older ``SECRET_KEY`` a new
    key and deletes one that it refuses: a WebSocket has no way to hand the browser a new cookie,
    so that would sign people out.
    """

    def cycle_key(self) -> None:
        """Keep the key."""

    def flush(self) -> None:
        """Forget what was read; the stored session stays for a request to judge."""
        self.clear()
