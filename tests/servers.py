"""Real servers in processes of their own, on ports of their own, ended by pid."""

from __future__ import annotations

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


class Server:
    """The example site under uvicorn."""

    def __init__(self, log: Path, environment: Mapping[str, str], *options: str) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.socket_url = f"ws://localhost:{self.port}/websocket"
        self.environment = {"PORT": str(self.port), **environment}
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "uvicorn", "example_project.asgi:application",
                    "--host", "127.0.0.1", "--port", str(self.port), "--ws", "websockets-sansio",
                    "--ws-per-message-deflate", "false", "--log-level", "warning", *options,
                ],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=output,
            )  # fmt: skip
        wait_until(lambda: answers(f"{self.url}/api/v2/"), what="the server's first answer")

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py`` beside the server, on its database."""
        return manage(*arguments, environment=self.environment)

    def shell(self, code: str) -> str:
        """Run Python code in ``manage.py shell``: a process that is not the server."""
        return self.manage("shell", "--no-imports", "-c", code)

    def stop(self) -> None:
        """End the server and wait for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
