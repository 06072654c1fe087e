"""Messages that are too large, on the wire or once unpacked, against each server: refused."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
from websockets.sync.client import connect

from tests import sites
from tests.journeys.prolific import SECONDS
from tests.servers import Server, wait_until
from tests.sites import environment_of

pytestmark = pytest.mark.server

LIMIT = 65_536
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Kind:
    """A server program, and how much it may keep of what it refuses, in megabytes."""

    program: str
    options: tuple[str, ...] = ()
    most: int = 40
    unpacks: bool = False

    def __str__(self) -> str:
        return "-".join((self.program, *(one.strip("-") for one in self.options)))


KINDS = (
    Kind("uvicorn", ("--ws-max-size", "131072")),
    Kind("uvicorn", ("--ws-per-message-deflate", "true"), unpacks=True),
    Kind("daphne"),
    # It keeps 16 MB of a message as text, of four bytes each.
    Kind("hypercorn", ("-w", "0"), most=160, unpacks=True),
)


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def server(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    site = tmp_path_factory.mktemp("oversize") / "site"
    shutil.copytree(sites.migrated(tmp_path_factory), site)
    server = Server(
        tmp_path_factory.mktemp("log") / "server.log",
        environment_of(site),
        *kind.options,
        program=kind.program,
        application="tests.journeys.observed:application",
    )
    yield server
    server.stop()


class Attacker:
    """A WebSocket by hand, which sends whatever it likes."""

    def __init__(self, server: Server, *, unpacked: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if unpacked else ""
        self._socket.sendall(
            "GET /websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{extension}"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        self.answer = b"".join(iter(self._file.readline, b"\r\n"))
        assert b" 101 " in self.answer, self.answer

    def send(self, data: bytes) -> bool:
        """Send these bytes, and say whether the server still takes any."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def heard(self) -> tuple[int, bytes]:
        """Return the next frame: its opcode and its payload; (0, nothing) at the end."""
        try:
            first = self._file.read(2)
            if len(first) < 2:
                return 0, b""
            size = first[1]
            if size == 126:
                [size] = struct.unpack("!H", self._file.read(2))
            return first[0] & 0xF, self._file.read(size)
        except OSError:  # reset: it was not read to its end
            return 0, b""

    def closed_with(self) -> int:
        """Return the code that the server closes with, or 0 when it just ends the connection."""
        while True:
            opcode, payload = self.heard()
            if opcode == 8:
                return int(struct.unpack("!H", payload[:2])[0])
            if opcode == 0:
                return 0

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def frame(payload: bytes, *, first: int = 0x81) -> bytes:
    """Return one frame; a mask of zeroes leaves the payload as it is."""
    return header(len(payload), first=first) + payload


def header(size: int, *, first: int = 0x81) -> bytes:
    if size < 126:
        return struct.pack("!BBI", first, 0x80 | size, 0)
    if size < LIMIT:
        return struct.pack("!BBHI", first, 0xFE, size, 0)
    return struct.pack("!BBQI", first, 0xFF, size, 0)


@contextlib.contextmanager
def attacker(server: Server, *, unpacked: bool = False) -> Iterator[Attacker]:
    """Give an attacker; what it had is let go of with it, and nobody else heard of it."""
    with connect(server.socket_url, compression=None) as other:
        one = Attacker(server, unpacked=unpacked)
        try:
            yield one
        finally:
            one.close()
        other.send(json.dumps({"type": "ping", "uid": "there"}))
        while (told := json.loads(other.recv(timeout=SECONDS))) == {"type": "ping"}:
            pass
        assert told == {"type": "pong", "uid": "there"}
    wait_until(lambda: server.ask("/debug/state")["sessions"] == 0, what="letting go")


@contextlib.contextmanager
def bounded(server: Server, kind: Kind) -> Iterator[None]:
    """After it, the server keeps no more memory than it may."""
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    yield
    grown = (process.memory_info().rss - before) / MEGABYTE
    assert grown < kind.most, f"{grown:.0f} MB"


def test_one_byte_more_than_the_limit_closes_and_the_limit_itself_does_not(server: Server) -> None:
    with attacker(server) as one:
        one.send(frame(b"x" * LIMIT))
        opcode, payload = one.heard()
        assert (opcode, json.loads(payload)["error"]["code"]) == (1, "INVALID_PAYLOAD")
        one.send(frame(b"x" * (LIMIT + 1)))
        assert one.closed_with() == 1009


def test_one_byte_more_that_is_no_text_closes_as_well(server: Server) -> None:
    with attacker(server) as one:
        one.send(frame(b"\xff" * LIMIT, first=0x82))
        opcode, payload = one.heard()
        assert (opcode, json.loads(payload)["error"]["code"]) == (1, "INVALID_PAYLOAD")
        one.send(frame(b"\xff" * (LIMIT + 1), first=0x82))
        assert one.closed_with() == 1009


def test_64_megabytes_are_not_taken(server: Server, kind: Kind) -> None:
    with bounded(server, kind), attacker(server) as one:
        size = 64 * MEGABYTE
        one.send(header(size))
        for _ in range(size // MEGABYTE):
            if not one.send(b"x" * MEGABYTE):
                break
        assert one.closed_with() in {0, 1009}


def test_a_flood_of_fragments_is_not_gathered(server: Server, kind: Kind) -> None:
    with bounded(server, kind), attacker(server) as one:
        one.send(frame(b"x", first=0x01))
        some = frame(b"x", first=0x00) * 1000
        for _ in range(200):
            if not one.send(some):
                break
        one.send(frame(b"x", first=0x80))
        assert one.closed_with() in {0, 1009}


def test_what_is_small_until_it_is_unpacked_is_not_taken(server: Server, kind: Kind) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(b"x" * MEGABYTE) for _ in range(100))
    packed += packer.flush(zlib.Z_SYNC_FLUSH)
    with bounded(server, kind), attacker(server, unpacked=True) as one:
        assert (b"permessage-deflate" in one.answer) is kind.unpacks
        one.send(frame(packed.removesuffix(b"\x00\x00\xff\xff"), first=0xC1))
        # A server that does not unpack takes the bit that says so for an error.
        assert one.closed_with() in ({0, 1009} if kind.unpacks else {0, 1002})
