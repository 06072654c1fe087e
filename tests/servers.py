"""Real servers in processes of their own, on ports of their own, ended by pid."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """Return a port below the ephemeral range on which nothing listens."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def wait_until(condition, *, seconds: float = 30.0, what: str = "the condition") -> None:
    """Return when ``condition()`` is true; fail with ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Return whether an HTTP server answers at ``url`` with anything."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def manage(*arguments: str, environment: Mapping[str, str]) -> str:
    """Run ``manage.py`` of the example project in a process of its own; return its output."""
    done = subprocess.run(
        [sys.executable, "example_project/manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


#: How each server program is started: recommended options first, then what a test adds.
PROGRAMS = {
    "uvicorn": (
        "uvicorn {application} --host 127.0.0.1 --port {port} --ws websockets-sansio "
        "--ws-per-message-deflate false --log-level warning"
    ),
    "daphne": "daphne -b 127.0.0.1 -p {port} -v 0 {application}",
    "hypercorn": "hypercorn -b 127.0.0.1:{port} --log-level warning {application}",
}


class Server:
    """
    The example site under an ASGI server: can be stopped, killed and started again on its port.

    It and its workers are a process group: what a test leaves of them ends with it.
    """

    def __init__(
        self,
        log: Path,
        environment: Mapping[str, str],
        *options: str,
        program: str = "uvicorn",
        application: str = "example_project.asgi:application",
        wait: bool = True,
    ) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.socket_url = f"ws://localhost:{self.port}/websocket"
        self.environment = {**environment, "PORT": str(self.port)}
        self.log = log
        self.program, self.application, self.options = program, application, options
        self.start(wait=wait)

    def command(self) -> list[str]:
        """Return the command line."""
        line = PROGRAMS[self.program].format(application=self.application, port=self.port)
        return [sys.executable, "-m", *line.split(), *self.options]

    def start(self, *, wait: bool = True) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=output,
                process_group=0,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Return when it answers."""
        wait_until(self._answers, seconds=60, what="the server's first answer")

    def ask(self, path: str) -> Any:
        """Return the JSON at ``path``."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py`` beside the server, on its database."""
        return manage(*arguments, environment=self.environment)

    def shell(self, code: str) -> str:
        """Run Python code in ``manage.py shell``: a process that is not the server."""
        return self.manage("shell", "--no-imports", "-c", code)

    def terminate(self) -> None:
        """Ask it to stop, as an operator does, and return."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it and wait for it."""
        if self.process.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.kill()

    def kill(self) -> None:
        """End it and its workers as a crash would: nothing is said to anybody."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return answers(f"{self.url}/api/v2/")
