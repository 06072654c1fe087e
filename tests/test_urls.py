"""What is mounted for Django, and how Django treats it."""

from __future__ import annotations

import pytest
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.urls import resolve, reverse


@pytest.mark.parametrize("name", ["events", "changes", "health"])
def test_no_address_is_asked_within_a_transaction(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    view = resolve(reverse(f"wagtail_live:{name}")).func
    assert BaseHandler().make_view_atomic(view) is view
