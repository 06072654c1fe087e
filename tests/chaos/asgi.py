"""The example site as the stage serves it: perhaps with a planted bug, and what it holds."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from example_project.asgi import application as site
from tests.chaos import clock, plants
from wagtail_live.hub import Follower, LiveQuery
from wagtail_live.session import Session

clock.follow(Path(os.environ["CHAOS_CLOCK"]))
plants.plant(os.environ.get("CHAOS_PLANT", ""))


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve the site, and at `/chaos/` what this process holds."""
    if scope["type"] == "http" and scope["path"] == "/chaos/":
        body = json.dumps(resources()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
        return
    await site(scope, receive, send)


def resources() -> dict[str, int]:
    """Return what must come back to where it was when clients have gone."""
    gc.collect()
    kinds = Counter(type(found) for found in gc.get_objects())
    process = psutil.Process()
    port = int(settings.DATABASES["default"]["PORT"] or 0)
    return {
        "sessions": kinds[Session],
        "followers": kinds[Follower],
        "live queries": kinds[LiveQuery],
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "database connections": sum(
            bool(link.raddr) and link.raddr.port == port for link in process.net_connections("tcp")
        ),
        "files": process.num_fds(),
        "megabytes": process.memory_info().rss // 1_000_000,
    }
