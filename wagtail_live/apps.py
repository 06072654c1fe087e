from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WagtailLiveConfig(AppConfig):
    name = "wagtail_live"
    verbose_name = _("Wagtail live content")
    default_auto_field = "django.db.models.BigAutoField"
