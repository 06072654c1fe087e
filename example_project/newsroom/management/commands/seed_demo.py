"""Fills the example site with its demo content."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from example_project.newsroom.seed import build


class Command(BaseCommand):
    help = "Fill the example site with its demo content. A second run changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--migrate",
            action="store_true",
            help="first bring the database up to date",
        )
        parser.add_argument(
            "--reset",
            action="store_true",
            help="first remove all pages, snippets, images, documents and the demo's users",
        )

    def handle(self, *args: Any, migrate: bool, reset: bool, **options: Any) -> None:
        if migrate:
            self.stdout.write("Bringing the database up to date")
            call_command("migrate", verbosity=0)
        if reset and build.is_seeded():
            self.stdout.write("Removing what is there")
            build.clear()
        if build.is_seeded():
            build.follow_port()
            self.stdout.write("The demo content is there already.")
            return
        build.build(self.stdout.write)
        self.stdout.write(self.style.SUCCESS("The demo content is ready."))
