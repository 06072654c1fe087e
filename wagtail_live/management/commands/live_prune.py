"""``manage.py live_prune``: shorten the log by hand, for a site where no relay runs."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from wagtail_live import retention, tickets
from wagtail_live.conf import settings


class Command(BaseCommand):
    help = (
        "Delete entries of the log that are older than the retention time. Servers do this by "
        "themselves while somebody follows; a client that was away longer gets a fresh snapshot."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--hours",
            type=float,
            default=settings.retention_hours,
            help="how old an entry may be (default: WAGTAIL_LIVE_RETENTION_HOURS, %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tickets.prune()
        deleted = retention.prune(older_than=timedelta(hours=options["hours"]), wait=True)
        self.stdout.write(f"{deleted} entries deleted, older than {options['hours']:g} hours.")
