"""One program of the stage: started, killed, frozen, thawed; never one of the machine's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil


class Lacking(Exception):
    """This machine lacks a program."""


def program(name: str, *elsewhere: str) -> str:
    """Return the path of an installed program, or raise ``Lacking``."""
    for folder in (None, *elsewhere):
        if found := shutil.which(name, path=folder):
            return found
    raise Lacking(name)


def as_user(name: str, command: Sequence[str]) -> list[str]:
    """Return ``command`` as root must give it to run it as ``name``: some refuse to be root."""
    if os.geteuid() != 0:
        return list(command)
    setpriv = program("setpriv")
    return [setpriv, f"--reuid={name}", f"--regid={name}", "--clear-groups", *command]


class Service:
    """A process with its children, in a folder of its own."""

    #: How long its first answer may take.
    patience_seconds = 60.0

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return what is added to the environment."""
        return {}

    def answers(self) -> bool:
        """Return whether it does its work."""
        raise NotImplementedError

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def launch(self) -> None:
        """Start it; do not wait."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environment()},
                cwd=Path(__file__).parents[2],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait()

    def wait(self) -> None:
        until(self.answers, self.patience_seconds, f"{self.name} answers", self.alive)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it and its children as a crash would."""
        self._signal_all(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def freeze(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end; wait, and end it if it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal_all(self, number: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            # The parent first: it must not start others while they are being counted.
            parent.send_signal(number)
            for child in parent.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(number)


def until(
    condition: Callable[[], bool],
    seconds: float,
    what: str,
    going_on: Callable[[], bool] = lambda: True,
) -> None:
    """Return when ``condition()``; raise when it takes longer or ``going_on`` ends."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end or not going_on():
            raise RuntimeError(f"it did not come true within {seconds:g} s that {what}")
        time.sleep(0.05)
