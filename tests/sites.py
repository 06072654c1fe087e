"""
The example site's database, made once per run of the tests and copied from then on.

Migrations take a quarter of a minute and the demo's content as long again; several test processes,
and the runs that follow each other in `make test`, share what the first of them made.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run import SHARED
from tests.servers import manage


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment in which the example project lives in ``folder``."""
    return {
        "DATABASE_URL": f"sqlite:///{folder / 'demo.sqlite3'}",
        "NEWSROOM_VAR": str(folder),
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "FRONTEND_PORT": "3000",
    }


def migrated(factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an empty site. Copy before use."""

    def make(folder: Path) -> None:
        manage("migrate", "-v0", environment=environment_of(folder))

    return _made_once(_shared(factory) / "migrated", make)


def seeded(factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the demo's content, pictures included. Copy before use."""

    def make(folder: Path) -> None:
        shutil.copytree(migrated(factory), folder, dirs_exist_ok=True)
        manage("seed_demo", environment=environment_of(folder))

    return _made_once(_shared(factory) / "seeded", make)


def _shared(factory: pytest.TempPathFactory) -> Path:
    if SHARED in os.environ:
        return Path(os.environ[SHARED])
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder
