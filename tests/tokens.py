"""Wagtail's API tokens for tests; before version 8 there are none."""

from __future__ import annotations

from typing import Any

import pytest
from wagtail import models

APIToken: Any = getattr(models, "APIToken", None)
needs_tokens = pytest.mark.skipif(APIToken is None, reason="this Wagtail has no API tokens")


def token_of(user: Any) -> tuple[Any, str]:
    """Return a new token of ``user`` and its text."""
    return APIToken.create_token(user=user, name="a test")
