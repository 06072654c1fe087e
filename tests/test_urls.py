"""What is mounted, and how Django and Channels treat it."""

from __future__ import annotations

from typing import Any

import pytest
from channels.testing import ApplicationCommunicator
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.urls import resolve, reverse

from example_project.asgi import application


@pytest.mark.parametrize("name", ["events", "changes", "health"])
def test_no_address_is_asked_within_a_transaction(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    view = resolve(reverse(f"wagtail_live:{name}")).func
    assert BaseHandler().make_view_atomic(view) is view


@pytest.mark.parametrize("path", ["/", "/nonsense", "/websocket/", "/live/events/"])
async def test_a_socket_at_an_address_that_leads_nowhere_is_refused(path: str) -> None:
    scope: dict[str, Any] = {"type": "websocket", "path": path, "headers": []}
    client = ApplicationCommunicator(application, scope)
    await client.send_input({"type": "websocket.connect"})
    assert await client.receive_output() == {"type": "websocket.close"}
    await client.wait()
