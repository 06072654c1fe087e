from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WagtailLiveConfig(AppConfig):
    name = "wagtail_live"
    verbose_name = _("Wagtail live content")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # These need the models.
        from wagtail_live import rights, signal_handlers  # noqa: PLC0415
        from wagtail_live.checks import (  # noqa: F401, PLC0415
            databases,
            deployment,
            installed,
            settings,
        )

        signal_handlers.connect()
        rights.connect()
