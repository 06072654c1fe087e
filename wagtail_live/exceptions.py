"""
What can go wrong, as sentences. The class's docstring is its default message, ``code`` is what
goes on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.exceptions import ImproperlyConfigured


class LiveError(Exception):
    """The server met a problem that is not yours. Try again in a moment."""

    code = "INTERNAL_ERROR"
    status = 500  #: of an HTTP answer that is this error and nothing else

    def __init__(self, message: str = "") -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        super().__init__(self.message)


class InvalidPayload(LiveError):
    """The message could not be read. Send one JSON object in a text frame, with a "type"."""

    code = "INVALID_PAYLOAD"
    status = 400


class UnknownType(LiveError):
    """There is no message of this type. Send auth, subscribe, unsubscribe, ping or pong."""

    code = "UNKNOWN_TYPE"
    status = 400


class InvalidCredentials(LiveError):
    """The access token or the ticket does not count, or no longer. Get a new one and send it."""

    code = "INVALID_CREDENTIALS"
    status = 401


class TokenExpired(InvalidCredentials):
    """The time of the ticket is over. Get a new one and send it."""

    code = "TOKEN_EXPIRED"


class Forbidden(LiveError):
    """
    This collection or object does not exist, or is not for you. Check its name and id, or sign in.
    """

    code = "FORBIDDEN"
    status = 403


class InvalidQuery(LiveError):
    """The query could not be followed. Use the parameters that the API endpoint itself accepts."""

    code = "INVALID_QUERY"
    status = 400


class RateLimited(LiveError):
    """You ask too often. Wait a minute, then try again."""

    code = "RATE_LIMITED"
    status = 429


class TooManyConnections(LiveError):
    """Too many connections are open from where you are. Close some, or try again in a minute."""

    code = "TOO_MANY_CONNECTIONS"
    status = 429


class TooManySubscriptions(LiveError):
    """This connection follows as much as it may. Unsubscribe from something first."""

    code = "TOO_MANY_SUBSCRIPTIONS"
    status = 429


class ServiceUnavailable(LiveError):
    """The content could not be read just now. Subscribe again in a few seconds."""

    code = "SERVICE_UNAVAILABLE"
    status = 503


class NotMounted(LiveError):
    """
    The event stream is not mounted. In asgi.py, route the http_urlpatterns of wagtail_live.routing
    before Django, and serve the site by ASGI.
    """

    code = "NOT_MOUNTED"
    status = 501


class BadCursor(LiveError):
    """The cursor does not prove what you have. A fresh snapshot follows."""

    code = "BAD_CURSOR"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()


def kinds(error: type[LiveError] = LiveError) -> Iterator[type[LiveError]]:
    """Yield ``error`` and what is below it."""
    yield error
    for one in error.__subclasses__():
        yield from kinds(one)


#: The HTTP status of each code.
STATUSES = {error.code: error.status for error in kinds()}


class LiveConfigurationError(ImproperlyConfigured):
    """A ``WAGTAIL_LIVE_*`` setting is missing or wrong."""
