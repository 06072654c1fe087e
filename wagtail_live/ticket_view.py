"""Where tickets are asked for (REST). Who asks is known as on the socket."""

from __future__ import annotations

import copy
from typing import Any

from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import CSRFCheck
from rest_framework.views import APIView

from wagtail_live import conf, handshake, identity, protocol, tickets
from wagtail_live.conf import settings
from wagtail_live.exceptions import Forbidden, InvalidCredentials, InvalidPayload, LiveError
from wagtail_live.openapi import Described, ticket_operation
from wagtail_live.protocol import TicketRequest

METHODS = ("POST", "OPTIONS")
#: What is said as ``Retry-After``, in seconds, to who has asked for very many.
AGAIN_SECONDS = 60


class Tickets(APIView):
    """
    ``POST``: a ticket, for who has a session here or an access token.

    The site's authenticators, permissions and throttles for its other REST views say nothing here.
    """

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    schema = Described(
        ticket_operation(
            redeem_seconds=tickets.REDEEM_SECONDS, longest_seconds=tickets.LONGEST_SECONDS
        )
    )

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer ``request``."""
        asker = copy.copy(request)  # the site's own keeps its user and its cookies
        if not handshake.is_welcome(asker):
            return _refusal(Forbidden("Pages of this origin may not follow this site."))
        if request.method == "OPTIONS":
            answer = HttpResponse(status=204, headers=handshake.preflight_headers(METHODS))
        elif request.method != "POST":
            answer = _refusal(InvalidPayload("Use POST."), 405)
        else:
            answer = self.post(request, asker)
        answer["Allow"] = ", ".join(METHODS)
        for name, value in handshake.cross_origin_headers(request).items():
            answer[name] = value
        return answer

    def post(self, request: HttpRequest, asker: HttpRequest) -> HttpResponse:
        """Return a ticket for ``asker``, or why there is none."""
        try:
            return _json(protocol.dumps(_issued(request, asker)), 201)
        except LiveError as problem:
            return _refusal(problem)


def _issued(request: HttpRequest, asker: HttpRequest) -> dict[str, Any]:
    protocol.refuse_secrets(request.META["QUERY_STRING"])
    asked = protocol.decode_ticket_request(_body(request))
    brought = identity.credentials(asker)
    if not brought and not handshake.is_same_origin(asker):
        asker.COOKIES = {}
    known: Any = identity.identify(asker, brought)
    if not known.user.is_authenticated:
        raise InvalidCredentials("Nobody is signed in. Sign in on this site, or send a token.")
    if not brought:
        _enforce_csrf(request)
    name, _ = conf.session_cookie()
    text = tickets.issue(
        known.user,
        session="" if brought else asker.COOKIES[name],
        token=tickets.token_behind(known.auth),
        origin=_origin(asker, asked),
        collections=asked.collections,
        seconds=asked.seconds or tickets.LONGEST_SECONDS,
    )
    return {"ticket": text, "expires_in": tickets.REDEEM_SECONDS}


def _body(request: HttpRequest) -> bytes:
    body: bytes = request.read(settings.max_message_bytes + 1)
    if len(body) > settings.max_message_bytes:
        raise InvalidPayload(f"The request is longer than {settings.max_message_bytes} bytes.")
    return body


def _origin(asker: HttpRequest, asked: TicketRequest) -> str:
    """Return the origin of the page that may redeem the ticket."""
    if asked.origin is None:
        return asker.headers.get("origin", "").lower()
    if not handshake.is_allowed_origin(asker, asked.origin):
        raise InvalidPayload(
            "Pages of that origin may not follow this site. Add it to WAGTAIL_LIVE_ALLOWED_ORIGINS."
        )
    return asked.origin.lower()


def _enforce_csrf(request: HttpRequest) -> None:
    """Hold who came with a cookie to Django's own protection, which APIView has switched off."""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    check = CSRFCheck(view)
    check.process_request(request)
    reason = check.process_view(request, view, (), {})
    if reason:
        raise Forbidden(f"{reason} Send Django's CSRF token in the X-CSRFToken header.")


def _refusal(problem: LiveError, status: int | None = None) -> HttpResponse:
    answer = _json(protocol.error("auth", problem), status or problem.status)
    match answer.status_code:
        case 401:
            answer["WWW-Authenticate"] = "Bearer"
        case 429:
            answer["Retry-After"] = str(AGAIN_SECONDS)
    return answer


def _json(text: str, status: int) -> HttpResponse:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return HttpResponse(text, content_type="application/json", status=status, headers=headers)
