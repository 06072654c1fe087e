"""
``GET health/``: one word for load balancers and alarms; the figures for those who may see them.

The figures betray that something happened, also to what is hidden. So they need the token of
``WAGTAIL_LIVE_HEALTH_TOKEN`` or an active superuser's session.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from wagtail_live import status
from wagtail_live.conf import settings
from wagtail_live.diagnosis import Report


@never_cache
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Answer 503 when no change reaches anybody, else 200, within a few seconds."""
    report = status.report()
    body: dict[str, Any] = {"status": report.status, "problems": codes(report)}
    if _has_token(request) or (report.log is not None and _is_superuser(request)):
        body.update(figures(report))
    return JsonResponse(body, status=503 if report.status == "down" else 200)


def codes(report: Report) -> list[str]:
    """Return the codes of the problems."""
    return [problem.name for problem in report.problems]


def figures(report: Report) -> dict[str, Any]:
    """Return all that is known, as JSON takes it."""
    log = None if report.log is None else {**asdict(report.log), "entries": report.log.entries}
    processes = [{**asdict(one), "cut": dict(one.cut)} for one in report.processes]
    found = {"error": report.error, "log": log, "processes": processes}
    return {name: _rounded(value) for name, value in found.items()}


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 1)
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case list():
            return [_rounded(one) for one in value]
        case _:
            return value


def _has_token(request: HttpRequest) -> bool:
    token = settings.health_token
    given = request.headers.get("Authorization", "")
    return bool(token) and constant_time_compare(given, f"Bearer {token}")


def _is_superuser(request: HttpRequest) -> bool:
    try:
        user = getattr(request, "user", None)
        return user is not None and user.is_active and user.is_superuser
    except DatabaseError:  # sessions may live in another one than the log
        return False
