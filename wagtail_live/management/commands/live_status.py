"""``manage.py live_status``: how the log is, and each process that serves subscribers."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand

from wagtail_live import health, status
from wagtail_live.diagnosis import ProcessState, Report

HEADINGS = (
    "HOST", "PID", "VERSION", "UP", "SEEN", "POSITION", "BEHIND",
    "SESSIONS", "QUERIES", "SUBSCRIPTIONS", "CUT", "FAILURES", "BELL",
)  # fmt: skip
CLEAR = "\033[H\033[2J"


class Command(BaseCommand):
    help = (
        "Show how the log is, and each process that serves subscribers. Ends with 1 when "
        "something is wrong. Needs no server."
    )
    # It is asked when something is wrong.
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the figures as one line")
        parser.add_argument(
            "--watch",
            type=float,
            nargs="?",
            const=2.0,
            metavar="SECONDS",
            help="show it again so often, until you stop it (default: %(const)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        show = _as_json if options["json"] else _as_text
        report = status.report()
        if options["watch"]:
            try:
                while True:
                    page = show(report)
                    self.stdout.write(page if options["json"] else CLEAR + page)
                    self.stdout.flush()
                    time.sleep(options["watch"])
                    report = status.report()
            except KeyboardInterrupt:
                pass
        else:
            self.stdout.write(show(report))
        if report.status != "ok":
            sys.exit(1)


def _as_json(report: Report) -> str:
    found = {"status": report.status, "problems": health.codes(report), **health.figures(report)}
    return json.dumps(found)


def _as_text(report: Report) -> str:
    return "\n".join([*_summary(report), *_log(report), *_processes(report)])


def _summary(report: Report) -> Iterator[str]:
    yield f"Status      {report.status}"
    for problem in report.problems:
        yield f"            {problem.name}: {problem.message}"
    if report.error:
        yield f"            {report.error}"


def _log(report: Report) -> Iterator[str]:
    log = report.log
    if log is None:
        return
    oldest = f", the oldest {_time(log.oldest_seconds)} old" if log.entries else ""
    waiting = f", the first for {_time(log.waiting_seconds)}" if log.unnumbered else ""
    yield f"Log         at {log.head}, pruned up to {log.floor}"
    yield f"            {log.entries} entries{oldest}"
    yield f"            {log.unnumbered} without a position{waiting}"


def _processes(report: Report) -> Iterator[str]:
    if report.log is None:
        return
    if not report.processes:
        yield "Processes   none serves subscribers"
        return
    rows = [HEADINGS, *(_row(process) for process in report.processes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield ""
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _row(process: ProcessState) -> tuple[str, ...]:
    return (
        process.host,
        str(process.pid),
        process.version,
        _time(process.up_seconds),
        f"{_time(process.seen_seconds)} ago",
        str(process.position),
        str(process.behind),
        str(process.sessions),
        str(process.live_queries),
        str(process.subscriptions),
        ", ".join(f"{count} {name}" for name, count in sorted(process.cut.items())) or "-",
        str(process.failures),
        f"{process.bell} {process.bell_error}".rstrip(),
    )


def _time(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
