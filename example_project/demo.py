"""
Runs the whole demo: database, content, the CMS and the front end.

    python example_project/demo.py            serve until Ctrl+C
    python example_project/demo.py --check    prepare, start, ask both, stop

The environment may say: PORT, FRONTEND_PORT, DATABASE_URL, REDIS_URL.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
MANAGE = [sys.executable, str(ROOT / "example_project" / "manage.py")]
HOST = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 10


class Stopped(Exception):
    """Someone asked the demo to end."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the demo newsroom.")
    parser.add_argument("--check", action="store_true", help="start, ask both servers, and stop")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)

    port, frontend_port = _port("PORT", 8000), _port("FRONTEND_PORT", 3000)
    if port == frontend_port:
        sys.exit("PORT and FRONTEND_PORT must differ: the front end is another origin.")
    for name, number in (("PORT", port), ("FRONTEND_PORT", frontend_port)):
        if not _is_free(number):
            sys.exit(f"Port {number} is taken. Choose another one: {name}={number + 1} make demo")
    os.environ |= {"PORT": str(port), "FRONTEND_PORT": str(frontend_port)}

    children: list[subprocess.Popen[bytes]] = []
    try:
        _prepare(children)
        children += [_start_cms(port), _start_frontend()]
        _wait_for(f"http://{HOST}:{port}/api/v2/pages/?limit=1", children)
        _wait_for(f"http://{HOST}:{frontend_port}/", children)
        _announce(port, frontend_port)
        return 0 if arguments.check else _watch(children)
    except Stopped:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _end(children)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _port(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        sys.exit(f"{name} must be a port number from 1 to 65535, not {text!r}.")
    return int(text)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    # A group of its own: Ctrl+C reaches this process alone, which then ends the children in turn.
    return subprocess.Popen(command, cwd=ROOT, process_group=0)  # noqa: S603 - our own commands


def _prepare(children: list[subprocess.Popen[bytes]]) -> None:
    child = _spawn([*MANAGE, "seed_demo", "--migrate"])
    children.append(child)
    if child.wait():
        sys.exit("The content could not be prepared; the message is above.")
    children.remove(child)


def _start_cms(port: int) -> subprocess.Popen[bytes]:
    options = {
        "--host": HOST,
        "--port": str(port),
        "--ws": "websockets-sansio",
        # Compression costs three times the CPU for each frame and socket.
        "--ws-per-message-deflate": "false",
        "--timeout-graceful-shutdown": "5",
        "--log-level": "warning",
    }
    flat = [text for option in options.items() for text in option]
    return _spawn([sys.executable, "-m", "uvicorn", "example_project.asgi:application", *flat])


def _start_frontend() -> subprocess.Popen[bytes]:
    return _spawn([sys.executable, str(ROOT / "example_project" / "frontend_server.py")])


def _wait_for(address: str, children: list[subprocess.Popen[bytes]]) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        if any(child.poll() is not None for child in children):
            sys.exit("A server ended at once; its message is above.")
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - our own address
                return
        except urllib.error.HTTPError as error:
            sys.exit(f"{address} answers {error.code}.")
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{address} did not answer within {START_SECONDS} seconds.")


def _announce(port: int, frontend_port: int) -> None:
    cms = f"http://localhost:{port}"
    print(f"""
  The Tidewell Courier is on the air.

    Front end        http://localhost:{frontend_port}/
    Wagtail admin    {cms}/admin/
    Classic pages    {cms}/   and   http://gazette.localhost:{port}/
    API              {cms}/api/v2/pages/
    WebSocket        ws://localhost:{port}/websocket

    Users            admin, editor, moderator, member
    Password         newsroom-demo   (the honours list opens with: silver-herring)

  Open the front end and the admin side by side, publish, and watch. Ctrl+C ends it.
""")


def _watch(children: list[subprocess.Popen[bytes]]) -> int:
    while True:
        for child in children:
            if child.poll() is not None:
                print("A server has ended; its message is above.", file=sys.stderr)
                return 1
        time.sleep(0.5)


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
