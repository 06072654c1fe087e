"""What a machine may lack: who needs it skips with one line; REQUIRE_ALL=1 makes that fail."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest
import redis


def lacking(what: str) -> NoReturn:
    """Skip the test, or fail it where everything is required."""
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set and this machine lacks {what}")
    pytest.skip(f"this machine lacks {what}")


def program(*names: str, called: str = "") -> str:
    """Return the path of the first of ``names`` that is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    lacking(called or names[0])


def redis_bell() -> dict[str, str]:
    """Return the environment in which Redis is the bell and nobody polls; skip without Redis."""
    address = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/9")
    try:
        with redis.Redis.from_url(address) as client:
            client.ping()
    except redis.RedisError as error:
        lacking(f"Redis ({error})")
    return {"REDIS_URL": address, "POLL_SECONDS": "3600"}
