from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WagtailLiveConfig(AppConfig):
    name = "wagtail_live"
    verbose_name = _("Wagtail live content")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from wagtail_live import checks, signal_handlers  # noqa: F401, PLC0415  # needs the models

        signal_handlers.connect()
