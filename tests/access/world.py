"""The site whose objects are asked for: that of the settings."""

from typing import Any

from django.apps import apps
from django.utils.module_loading import import_string

WAGTAILS_OWN = apps.is_installed("wagtail.test.testapp")
_module = "tests.access.wagtail_site.world" if WAGTAILS_OWN else "tests.access.newsroom_world"
Things = dict[str, dict[str, Any]]
ASKERS, QUERIES, make = (
    import_string(f"{_module}.{name}") for name in ("ASKERS", "QUERIES", "make")
)
