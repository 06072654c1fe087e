"""The tests' settings with short waits, so that a minute holds many recoveries."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403  # settings are names

DEBUG = False
SILENCED_SYSTEM_CHECKS = ["models.W036"]
WAGTAIL_LIVE_POLL_SECONDS = float(os.environ.get("POLL_SECONDS") or 1)
WAGTAIL_LIVE_HEARTBEAT_SECONDS = 2
#: So small that a bulk edit is told as a reset.
WAGTAIL_LIVE_MAX_BATCH = 25
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"wagtail_live": {"level": "INFO"}},
}
