"""
The demo in processes of its own, under its own settings: its server, with the command line that
the demo gives it, and its front end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from example_project import demo
from tests import sites
from tests.servers import ROOT, Server, answers, free_port, wait_until
from tests.sites import environment_of


def demo_environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of the demo in ``folder``: its own settings, not those of tests."""
    return {
        **environment_of(folder),
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "FRONTEND_PORT": str(free_port()),
        **more,
    }


def demo_copy(factory: pytest.TempPathFactory, name: str) -> Path:
    """Return a new folder with the demo's content, pictures included."""
    folder = factory.mktemp(name) / "site"
    shutil.copytree(sites.seeded(factory), folder)
    return folder


def demo_command(port: int) -> list[str]:
    """Return how the demo starts its server, with an application that can be looked into."""
    with patch.object(demo, "_spawn", lambda command: command):
        command: Any = demo._start_cms(port)
    application = command.index("example_project.asgi:application")
    return [
        *command[:application],
        "tests.journeys.observed:application",
        *command[application + 1 :],
    ]


class DemoServer(Server):
    """The demo's server, with the options that the demo gives it."""

    def command(self) -> list[str]:
        return [*demo_command(self.port), *self.options]


class Frontend:
    """The demo's front end: another origin."""

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self.url = f"http://localhost:{environment['FRONTEND_PORT']}"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "example_project/frontend_server.py"],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
            )
        wait_until(lambda: answers(self.url), what="the front end's first answer")

    def stop(self) -> None:
        """End it and wait for it."""
        self.process.terminate()
        self.process.wait(10)
