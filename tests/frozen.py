"""
A process that is stopped while it numbers: appends an entry, takes the head's lock, stops itself.

Whatever comes of it when it is woken, it prints: its numbering's result or "refused", then the
outcome of the next query on the same connection.
"""

from __future__ import annotations

import os
import signal
import sys

import django


def main() -> None:
    django.setup()
    from django.conf import settings  # noqa: PLC0415  # only after setup
    from django.db import DatabaseError, InterfaceError  # noqa: PLC0415

    settings.DATABASES["default"]["NAME"] = sys.argv[1]
    from example_project.newsroom.models import Notice  # noqa: PLC0415
    from wagtail_live import head, log, numbering  # noqa: PLC0415
    from wagtail_live.events import Kind  # noqa: PLC0415

    write = numbering._write

    def stop(*args: object) -> None:
        print("stopping", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        write(*args)  # type: ignore[arg-type]

    log.number_and_ring = lambda **_: None
    log.append(Kind.SAVE, Notice, "of the frozen")
    numbering._write = stop
    try:
        print(numbering.number(), flush=True)
    except (DatabaseError, InterfaceError):
        print("refused", flush=True)
    numbering._write = write
    print("goes on" if head.position().number else "lost", flush=True)


main()
