"""
Run every test that this machine can run: `make test`.

The whole suite on SQLite, several files at once, then those that print figures by themselves; the
tests marked `databases` again on PostgreSQL and MariaDB, the
JavaScript client's tests under Node.js. What the machine lacks is skipped with one line;
REQUIRE_ALL=1 makes that a failure. Arguments go to pytest; with any, Node.js is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4
from xml.etree import ElementTree

import dj_database_url
import psycopg
import pymysql

ROOT = Path(__file__).resolve().parent.parent
DATABASES = {
    "PostgreSQL": os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432"),
    "MariaDB": os.environ.get("TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306"),
}
#: What a developer has set for the demo must not reach the tests.
DEMO_VARIABLES = ("DATABASE_URL", "DEBUG", "FRONTEND_PORT", "PORT", "REDIS_URL", "SECRET_KEY")
NOTHING_COLLECTED = 5
#: Names the folder in which the runs of pytest find what one of them made for all.
SHARED = "TESTS_SHARED_FOLDER"
#: As many at once as there are processors, up to four; the tests of a file share what is slow.
SIDE_BY_SIDE = [
    *("-n", "auto", "--maxprocesses", "4"),
    *("--dist", "loadfile", "--no-loadscope-reorder"),
]


@dataclass
class Count:
    """How many tests ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def main(arguments: list[str]) -> int:
    environment = {key: value for key, value in os.environ.items() if key not in DEMO_VARIABLES}
    with tempfile.TemporaryDirectory(prefix="wagtail-live-tests-") as name:
        folder = Path(name)
        environment["NEWSROOM_VAR"] = environment[SHARED] = name
        if arguments:
            total = run_pytest("SQLite", arguments, environment, folder)
        else:
            total = run_pytest("SQLite", [*SIDE_BY_SIDE, "-m", "not measured"], environment, folder)
            total += run_pytest("SQLite, measured", ["-m", "measured"], environment, folder)
        for database, url in DATABASES.items():
            total += run_on_database(database, url, arguments, environment, folder)
        if not arguments:
            total += run_node(environment, folder)
    say(str(total))
    return 1 if total.failed else 0


def run_pytest(
    title: str, arguments: list[str], environment: Mapping[str, str], folder: Path
) -> Count:
    """Run pytest, its output in full view, and count by its own report."""
    say(f"Python tests on {title}")
    report = folder / f"{title}.xml"
    code = subprocess.run(
        [sys.executable, "-m", "pytest", f"--junitxml={report}", *arguments],
        cwd=ROOT,
        env=environment,
        check=False,
    ).returncode
    if not report.exists():
        return Count(failed=1)
    count = Count()
    for suite in ElementTree.parse(report).iter("testsuite"):  # noqa: S314 - our own report
        tests, failures, errors, skipped = (
            int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")
        )
        failed = failures + errors
        count += Count(max(tests - failed - skipped, 0), failed, skipped)
    if code not in {0, NOTHING_COLLECTED} and not count.failed:
        count.failed = 1  # interrupted, or wrongly called
    return count


def run_on_database(
    database: str,
    url: str,
    arguments: list[str],
    environment: Mapping[str, str],
    folder: Path,
) -> Count:
    """Run the tests that depend on the database in a new one on the server at ``url``."""
    problem = unreachable(url)
    if problem:
        return lacking(f"{database} ({problem})", "the database tests on it")
    named = urlsplit(url)._replace(path=f"/wagtail_live_{uuid4().hex[:12]}").geturl()
    return run_pytest(
        database,
        ["-m", "databases", *(arguments or SIDE_BY_SIDE)],
        {**environment, "DATABASE_URL": named},
        folder,
    )


def unreachable(url: str) -> str:
    """Return why the server at ``url`` cannot be used, or nothing."""
    found = dj_database_url.parse(url)
    where = {
        "host": found["HOST"],
        "port": int(found["PORT"] or 0),
        "user": found["USER"],
        "password": found["PASSWORD"],
    }
    where = {key: value for key, value in where.items() if value}
    try:
        if url.startswith("mysql"):
            pymysql.connect(**where, connect_timeout=3).close()
        else:
            psycopg.connect(**where, dbname="postgres", connect_timeout=3).close()
    except (psycopg.Error, pymysql.Error) as error:
        return " ".join(str(error).split())
    return ""


def run_node(environment: Mapping[str, str], folder: Path) -> Count:
    """Run the JavaScript client's tests."""
    node = shutil.which("node")
    if node is None:
        return lacking("Node.js", "the JavaScript tests")
    say("JavaScript tests")
    report = folder / "node.tap"
    files = sorted((ROOT / "tests" / "js").glob("*.test.mjs"))
    code = subprocess.run(
        [
            node, "--test",
            "--test-reporter=dot", "--test-reporter-destination=stdout",
            "--test-reporter=tap", f"--test-reporter-destination={report}",
            *map(str, files),
        ],
        cwd=ROOT,
        env=environment,
        check=False,
    ).returncode  # fmt: skip
    text = report.read_text() if report.exists() else ""
    numbers = {key: int(value) for key, value in re.findall(r"^# (\w+) (\d+)$", text, re.M)}
    failed = numbers.get("fail", 0) + numbers.get("cancelled", 0)
    if code:
        print(text)
    return Count(
        numbers.get("pass", 0),
        failed or (1 if code else 0),
        numbers.get("skipped", 0) + numbers.get("todo", 0),
    )


def lacking(what: str, whose: str) -> Count:
    """Say that this machine lacks ``what``; count a skip, or a failure where all is required."""
    if os.environ.get("REQUIRE_ALL"):
        say(f"REQUIRE_ALL is set and this machine lacks {what}: {whose} failed")
        return Count(failed=1)
    say(f"Skipped: {whose}, this machine lacks {what}")
    return Count(skipped=1)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
