"""Settings of Wagtail's own test site, which comes with Wagtail, and of wagtail_live on it."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403  # settings are names
from tests.settings import INSTALLED_APPS, VAR_DIR

INSTALLED_APPS = [
    "wagtail.test.testapp",
    "wagtail.contrib.forms",
    "wagtail.contrib.routable_page",
    "wagtail.contrib.search_promotions",
    "wagtail.contrib.settings",
    "wagtail.contrib.table_block",
    "wagtail.contrib.typed_table_block",
    *INSTALLED_APPS,
]
ROOT_URLCONF = "tests.access.wagtail_site.urls"
WAGTAIL_LIVE_API_ROUTER = "tests.access.wagtail_site.urls.api_router"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(VAR_DIR / "wagtail-site.sqlite3"),
        "TEST": {"NAME": str(VAR_DIR / f"test-wagtail-site-{os.getpid()}.sqlite3")},
    }
}


class _None(dict):
    """The tables as the models are now: the fixtures bring what migrations would write."""

    def __contains__(self, label: object) -> bool:
        return True

    def __getitem__(self, label: str) -> None:
        return None


MIGRATION_MODULES = _None()
SILENCED_SYSTEM_CHECKS = ["models.W042"]
