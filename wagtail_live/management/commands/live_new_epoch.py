"""``manage.py live_new_epoch``: after a backup was restored, let every client start afresh."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from wagtail_live import retention

QUESTION = """\
Every client will get a fresh snapshot instead of what it missed, and every running server will
give its followers one. Nothing of your content changes.
Type 'yes' to go on: """


class Command(BaseCommand):
    help = (
        "Begin the log anew, after a backup of the database was restored: no cursor that was given "
        "before is good any more, and every follower gets a fresh snapshot."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--noinput",
            "--no-input",
            action="store_false",
            dest="interactive",
            help="do not ask for confirmation",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["interactive"] and input(QUESTION) != "yes":
            raise CommandError("Nothing was done.")
        deleted = retention.new_epoch()
        self.stdout.write(f"A new epoch begins. {deleted} entries of the old one are deleted.")
