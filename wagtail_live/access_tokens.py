"""Wagtail's own API tokens, which came with version 8: the only door to them. Blocking."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone
from wagtail import models as wagtail_models

from wagtail_live import conf
from wagtail_live.exceptions import InvalidCredentials

_APIToken: Any = getattr(wagtail_models, "APIToken", None)


def find(text: str) -> Any:
    """
    Return the ``APIToken`` with this text, its user loaded, and note that it was used.

    Raises ``InvalidCredentials`` when there is none, or it or its user no longer counts.
    """
    if _APIToken is None:
        raise InvalidCredentials("There are no access tokens before Wagtail 8. Sign in instead.")
    if not text.isascii():
        raise InvalidCredentials
    # Found by its hash: how long that takes tells nothing about the secret.
    hashes = _APIToken.candidate_key_hashes(text)
    token = _counting(key_hash__in=hashes)
    _touch(token)
    return token


def get(number: int) -> Any:
    """Return the ``APIToken`` with this id, or raise ``InvalidCredentials`` as ``find``."""
    if _APIToken is None:
        raise InvalidCredentials
    return _counting(pk=number)


def number(auth: object) -> int | None:
    """Return the id of ``auth`` if it is such a token."""
    return auth.pk if _APIToken is not None and isinstance(auth, _APIToken) else None


def choices(chosen: int | None) -> list[tuple[int, str]]:
    """Return (id, name) of the tokens that count, and of the one that was ``chosen``."""
    if _APIToken is None:
        return []
    rows = _APIToken.objects.select_related("user").order_by("user", "name")
    found = rows.filter(Q(revoked_at=None) | Q(pk=chosen))
    return [(token.pk, f"{token.user}: {token}") for token in found]


def _counting(**which: Any) -> Any:
    token = _APIToken.objects.select_related("user").filter(revoked_at=None, **which).first()
    if token is None or not token.user.is_active:
        raise InvalidCredentials
    return token


def _touch(token: Any) -> None:
    """Note the time, as often as Wagtail's own API does."""
    seconds = conf.token_touch_seconds()
    now = timezone.now()
    if seconds is None:
        return
    if token.last_used_at is None or now - token.last_used_at >= timedelta(seconds=seconds):
        _APIToken.objects.filter(pk=token.pk).update(last_used_at=now)
