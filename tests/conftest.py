"""Fixtures that several test modules share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, manage


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's database and media, seeded once per run: copy before use."""
    folder = tmp_path_factory.mktemp("seeded")
    environment = environment_of(folder)
    manage("migrate", "-v0", environment=environment)
    manage("seed_demo", environment=environment)
    return folder


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment in which the example project lives in ``folder``."""
    return {
        "DATABASE_URL": f"sqlite:///{folder / 'demo.sqlite3'}",
        "NEWSROOM_VAR": str(folder),
        "FRONTEND_PORT": "3000",
    }


@pytest.fixture
def server(seeded: Path, tmp_path: Path) -> Iterator[Server]:
    """The example site on its own copy of the demo's content."""
    folder = tmp_path / "site"
    shutil.copytree(seeded, folder)
    server = Server(tmp_path / "server.log", environment_of(folder))
    yield server
    server.stop()
