"""
Very many clients in one process, each as light as can be: a WebSocket by hand that follows one
query, and comes back as it was advised.

    python tests/journeys/herd.py PORT CLIENTS

Prints a line of JSON when all are there, and each time that all have come back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from typing import Any

QUERY = {"type": "newsroom.ArticlePage", "fields": "title", "limit": 20}
KEY = base64.b64encode(os.urandom(16)).decode()


class Client(asyncio.Protocol):
    """One connection after another; the herd is told when it is live, and when no longer."""

    def __init__(self, herd: Herd) -> None:
        self.herd = herd
        self.cursor: str | None = None
        self.reconnect_seconds = 1.0
        self.transport: Any = None
        self.live = False
        self.opened = False
        self.unread = b""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.unread, self.opened = transport, b"", False
        transport.write(
            f"GET /websocket HTTP/1.1\r\nHost: localhost:{self.herd.port}\r\n"
            f"Origin: http://localhost:{self.herd.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.unread += data
        if not self.opened:
            head, end, self.unread = self.unread.partition(b"\r\n\r\n")
            if not end:
                self.unread = head
                return
            if b" 101 " not in head:
                self.transport.abort()
                return
            self.opened = True
            asked = {"type": "subscribe", "collection": "pages", "query": QUERY}
            self.say({**asked, "cursor": self.cursor} if self.cursor else asked)
        while (frame := self.next_frame()) is not None:
            self.hear(*frame)

    def next_frame(self) -> tuple[int, bytes] | None:
        if len(self.unread) < 2:
            return None
        start, size = 2, self.unread[1]
        if size == 126:
            start, size = 4, int.from_bytes(self.unread[2:4], "big")
        elif size == 127:
            start, size = 10, int.from_bytes(self.unread[2:10], "big")
        if len(self.unread) < start + size:
            return None
        frame = self.unread[0] & 15, self.unread[start : start + size]
        self.unread = self.unread[start + size :]
        return frame

    def hear(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.herd.codes[int.from_bytes(payload[:2], "big")] += 1
            self.send(8, payload[:2])
        elif opcode == 9:
            self.send(10, payload)
        elif opcode == 1:
            frame = json.loads(payload)
            if frame["type"] == "ping":
                self.say({"type": "pong"})
                return
            assert "status" not in frame, frame
            self.cursor = frame.get("cursor", self.cursor)
            if frame["event"] in {"init", "resume"}:
                self.reconnect_seconds = frame["reconnect_seconds"]
                self.live = True
                self.herd.arrived(frame.get("reset") or frame["event"])

    def say(self, message: dict[str, Any]) -> None:
        self.send(1, json.dumps(message).encode())

    def send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        long = bytes([0x80 | 126]) + size.to_bytes(2, "big")
        head = bytes([0x80 | opcode]) + (long if size > 125 else bytes([0x80 | size]))
        self.transport.write(head + bytes(4) + payload)  # a mask of zeroes

    def connection_lost(self, error: Exception | None) -> None:
        if self.live:
            self.live = False
            self.herd.left()
        self.come_back()

    def come_back(self) -> None:
        seconds = random.uniform(0, self.reconnect_seconds)
        asyncio.get_running_loop().call_later(seconds, self.herd.bring, self)


class Herd:
    def __init__(self, port: int, size: int) -> None:
        self.port, self.size = port, size
        self.codes: Counter[int] = Counter()
        self.answers: Counter[str] = Counter()
        self.live = 0
        self.attempts = 0
        self.began = time.time()
        self.times: list[float] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def bring(self, client: Client) -> None:
        task = asyncio.create_task(self._connect(client))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self, client: Client) -> None:
        self.attempts += 1
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: client, "127.0.0.1", self.port
            )
        except OSError:
            client.come_back()

    def arrived(self, how: str) -> None:
        self.live += 1
        self.answers[how] += 1
        self.times.append(time.time())
        if self.live == self.size:
            said = {
                "began": self.began,
                "times": self.times,
                "answers": self.answers,
                "codes": self.codes,
                "attempts": self.attempts,
            }
            print(json.dumps(said), flush=True)
            self.times, self.answers, self.codes = [], Counter(), Counter()
            self.attempts = 0

    def left(self) -> None:
        if self.live == self.size:
            self.began = time.time()
        self.live -= 1


async def main(port: int, size: int) -> None:
    herd = Herd(port, size)
    for _ in range(size):
        herd.bring(Client(herd))
        await asyncio.sleep(0.002)
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
