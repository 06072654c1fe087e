"""``manage.py check``: what is installed beside this package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import django
from django.core.checks import CheckMessage, Error, Tags, Warning, register

#: Before it, frames had no limit, and headers could be smuggled (CVE-2026-44545, CVE-2026-44546).
DAPHNE = (4, 2, 2)
#: Before these, headers with underscores could be forged under ASGI (CVE-2026-3902).
DJANGO = {(5, 2): (5, 2, 13), (6, 0): (6, 0, 4)}


@register(Tags.compatibility)
def check_namesake(**kwargs: Any) -> list[CheckMessage]:
    """Return an error when the other distribution with our import name is installed."""
    if _installed("wagtail-live") is None:
        return []
    return [
        Error(
            "The distribution wagtail-live is installed; it has the same import name as "
            "wagtail-live-content, and the two overwrite each other's files.",
            hint="Uninstall both, then install wagtail-live-content again.",
            id="wagtail_live.E004",
        )
    ]


@register(Tags.security)
def check_versions(**kwargs: Any) -> list[CheckMessage]:
    """Return a warning for each server or framework with a hole that a socket leads to."""
    found: list[CheckMessage] = []
    daphne = _installed("daphne")
    if daphne is not None and _numbers(daphne) < DAPHNE:
        found.append(
            Warning(
                f"Daphne {daphne} is installed: a client can make it keep frames without a limit.",
                hint="Upgrade Daphne to 4.2.2 or later, or uninstall it if another server runs.",
                id="wagtail_live.W004",
            )
        )
    fixed = DJANGO.get(django.VERSION[:2])
    if fixed is not None and django.VERSION[:3] < fixed:
        found.append(
            Warning(
                f"Django {django.get_version()} lets a client forge headers under ASGI.",
                hint=f"Upgrade Django to {'.'.join(map(str, fixed))} or later.",
                id="wagtail_live.W005",
            )
        )
    return found


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    parts = [part for part in text.split(".")[:3] if part.isdecimal()]
    return tuple(map(int, parts))
