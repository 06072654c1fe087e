"""
What a site's OpenAPI document says of the change feed, whatever makes that document.

REST framework's own generator and drf-spectacular each want a schema of their own class, and guess
from serializers, of which the feed has none. Here the site's class is used and told what to say.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from rest_framework.schemas.inspectors import DefaultSchema

from wagtail_live.exceptions import (
    STATUSES,
    Forbidden,
    InvalidCredentials,
    InvalidPayload,
    LiveError,
    RateLimited,
    ServiceUnavailable,
    TooManyConnections,
)
from wagtail_live.protocol import EVENTS

TEXT = {"type": "string"}
ERROR = {
    "type": "object",
    "required": ["type", "status", "error"],
    "properties": {
        "type": {"type": "string", "enum": ["auth", "subscribe", "subscription", "server"]},
        "status": {"type": "string", "enum": ["error"]},
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string", "enum": sorted(STATUSES)}, "message": TEXT},
        },
        "uid": TEXT,
    },
}
FRAME = {
    "type": "object",
    "required": ["type", "event"],
    "properties": {
        "type": {"type": "string", "enum": ["subscription"]},
        "event": {"type": "string", "enum": ["init", "resume", *EVENTS]},
        "data": {"description": "Rows as the API gives them; ids when the event is delete."},
        "meta": {"type": "object", "properties": {"total_count": {"type": "integer"}}},
        "reset": {**TEXT, "description": "Why this init replaces all that you hold."},
        "uid": TEXT,
        "cursor": TEXT,
        "reconnect_seconds": {"type": "integer"},
    },
}
PAGE = {
    "type": "object",
    "required": ["frames", "cursor"],
    "properties": {
        "frames": {"type": "array", "items": FRAME},
        "cursor": {**TEXT, "description": "Give it with the next request."},
    },
}
RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds until the next request makes sense.",
        "schema": {"type": "integer"},
    }
}


def operation(*, longest_wait: float) -> dict[str, Any]:
    """Return the operation object of the change feed's ``GET``."""
    return {
        "operationId": "listLiveChanges",
        "summary": "What has changed since a cursor",
        "description": (
            "Without a cursor: one init frame with what there is now. With one: a resume frame and "
            "all that was missed, or an init with reset when the cursor proves nothing."
        ),
        "tags": ["live"],
        "security": [{}],
        "parameters": [
            _parameter("collection", TEXT, "The name of an endpoint of the API.", required=True),
            _parameter("query", TEXT, "What stands in that endpoint's query string."),
            _parameter("item", TEXT, "The id of one object: follow it alone."),
            _parameter("event", {"type": "string", "enum": [*EVENTS]}, "Such changes only."),
            _parameter("cursor", TEXT, "That of the last answer to the same query."),
            _parameter("uid", TEXT, "A name for the subscription; it comes back in each frame."),
            _parameter(
                "wait",
                {"type": "number", "minimum": 0, "maximum": longest_wait, "default": 0},
                "With nothing missed, wait so many seconds for the next change.",
            ),
        ],
        "responses": {
            "200": {
                "description": "The frames. Retry-After when there are none and no wait was given.",
                "headers": RETRY_AFTER,
                "content": _json(PAGE),
            },
            "400": {"description": "The parameters cannot be followed.", "content": _json(ERROR)},
            "401": {"description": InvalidCredentials().message, "content": _json(ERROR)},
            "403": {
                "description": "There is no such thing, or it is not for you, or the page that "
                "asks has a foreign origin.",
                "content": _json(ERROR),
            },
            str(TooManyConnections.status): {
                "description": TooManyConnections().message,
                "headers": RETRY_AFTER,
                "content": _json(ERROR),
            },
            str(LiveError.status): {"description": LiveError().message, "content": _json(ERROR)},
            str(ServiceUnavailable.status): {
                "description": ServiceUnavailable().message,
                "headers": RETRY_AFTER,
                "content": _json(ERROR),
            },
        },
    }


def ticket_operation(*, redeem_seconds: int, longest_seconds: int) -> dict[str, Any]:
    """Return the operation object of the ticket's ``POST``."""
    refusals = {
        InvalidPayload: "The body is not as described.",
        InvalidCredentials: "Nobody is signed in, or the token does not count.",
        Forbidden: "The CSRF token is missing, or the page that asks has a foreign origin.",
        RateLimited: RateLimited().message,
    }
    return {
        "operationId": "createLiveTicket",
        "summary": "A one-use ticket for a connection",
        "description": (
            "For who is signed in by the session of this very origin, with Django's CSRF token, or "
            "sends an access token as Authorization: Bearer. Send the ticket in an auth message."
        ),
        "tags": ["live"],
        "security": [{}],
        "requestBody": {
            "required": False,
            "content": _json(
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "origin": {
                            **TEXT,
                            "description": "Of the page that may redeem it; yours by default.",
                        },
                        "collections": {
                            "type": "array",
                            "items": TEXT,
                            "description": "Those that may be followed with it; all by default.",
                        },
                        "seconds": {
                            "type": "integer",
                            "minimum": 1,
                            "default": longest_seconds,
                            "description": "How long it counts, once redeemed.",
                        },
                    },
                }
            ),
        },
        "responses": {
            "201": {
                "description": f"The ticket, to be redeemed within {redeem_seconds} seconds.",
                "content": _json(
                    {
                        "type": "object",
                        "required": ["ticket", "expires_in"],
                        "properties": {"ticket": TEXT, "expires_in": {"type": "integer"}},
                    }
                ),
            },
            **{
                str(kind.status): {"description": said, "content": _json(ERROR)}
                for kind, said in refusals.items()
            },
        },
    }


class Described(DefaultSchema):
    """The site's own schema class, with this operation."""

    def __init__(self, operation: dict[str, Any]) -> None:
        super().__init__()
        self._operation = operation

    def __get__(self, instance: Any, owner: Any) -> Any:
        inspector = super().__get__(instance, owner)
        # Both generators call these two, each with arguments of its own.
        vars(inspector).update(
            get_operation=lambda *place: deepcopy(self._operation),
            get_components=lambda *place: {},
        )
        return inspector


def _parameter(
    name: str, schema: dict[str, Any], description: str, *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema,
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
