"""Fixtures that several test modules share."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.db import connection
from django.test.utils import setup_databases, teardown_databases

from tests import newsroom, sites
from tests.live import end
from tests.servers import Server
from tests.sites import environment_of

# A busy machine is slow, and that is no failure.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


#: Files that take minutes: the others are done beside them.
LONG = (
    "test_parity.py",
    "test_docs.py",
    "test_core_machine.py",
    "test_wagtail_site.py",
    "test_matrix.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long ones, lest a worker is alone with one at the end."""
    items.sort(key=lambda item: LONG.index(name) if (name := item.path.name) in LONG else len(LONG))


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's database and media: copy before use."""
    return sites.seeded(tmp_path_factory)


@pytest.fixture
def server(seeded: Path, tmp_path: Path) -> Iterator[Server]:
    """The example site on its own copy of the demo's content."""
    folder = tmp_path / "site"
    shutil.copytree(seeded, folder)
    server = Server(tmp_path / "server.log", environment_of(folder))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_modify_db_settings: None,
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Make the test database for every test that asks, marked ``django_db`` or not."""
    migrated = connection.vendor == "sqlite" and not apps.is_installed("wagtail.test.testapp")
    with django_db_blocker.unblock():
        if migrated:
            name = connection.creation._get_test_db_name()
            shutil.copy(sites.migrated(tmp_path_factory) / "demo.sqlite3", name)
        made = setup_databases(verbosity=0, interactive=False, keepdb=migrated)
    yield
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity=0)


#: What migrations put there, and which rows of it tests leave alone ("" is all of them).
KEPT = {
    "auth_group": "name IN ('Editors', 'Moderators')",
    "auth_group_permissions": "",
    "auth_permission": "",
    "django_content_type": "",
    "django_migrations": "",
    "wagtailcore_collection": "depth = 1",
    "wagtailcore_groupapprovaltask": "",
    "wagtailcore_groupapprovaltask_groups": "",
    "wagtailcore_groupcollectionpermission": "collection_id = 1",
    "wagtailcore_grouppagepermission": "page_id = 1",
    "wagtailcore_locale": "language_code = 'en'",
    "wagtailcore_page": "depth = 1",
    "wagtailcore_task": "",
    "wagtailcore_workflow": "",
    "wagtailcore_workflowpage": "page_id = 1",
    "wagtailcore_workflowtask": "",
}


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """
    A database in which transactions really commit; what a test wrote is deleted after it.

    Django's own way, a flush of all tables and the signals of a migration, takes seconds on
    PostgreSQL and MariaDB.
    """
    with django_db_blocker.unblock():
        yield
        empty_tables()
        connection.close()


def empty_tables() -> None:
    tables = connection.introspection.django_table_names(only_existing=True)
    off, on = {
        "sqlite": ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
        "postgresql": (
            "SET session_replication_role = 'replica'",
            "SET session_replication_role = 'origin'",
        ),
        "mysql": ("SET FOREIGN_KEY_CHECKS = 0", "SET FOREIGN_KEY_CHECKS = 1"),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(off)
        for name in tables:
            table = connection.ops.quote_name(name)
            kept = f" WHERE NOT ({KEPT[name]})" if KEPT.get(name) else ""
            if KEPT.get(name) == "":
                continue
            cursor.execute(f"SELECT 1 FROM {table}{kept} LIMIT 1")  # noqa: S608 - our own words
            if cursor.fetchone():
                cursor.execute(f"DELETE FROM {table}{kept}")  # noqa: S608 - our own words
        cursor.execute("UPDATE wagtailcore_page SET numchild = 0")
        cursor.execute("UPDATE wagtailcore_collection SET numchild = 0")
        cursor.execute(on)
    ContentType.objects.clear_cache()
    cache.clear()


@pytest.fixture
def news() -> newsroom.Newsroom:
    """A small site of articles; needs a database."""
    return newsroom.build()


@pytest.fixture
async def quiet_relay() -> AsyncIterator[None]:
    """End the relay's task and the pool's connections with the test."""
    yield
    await end()
