"""
A TCP proxy that breaks what goes through it: cut, stall, half-open, split, throttle, delay.

Stands between clients and a server, or between a server and its database or Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import Enum

CHUNK = 65_536
#: Close with a reset instead of a farewell.
RESET = struct.pack("ii", 1, 0)


class Fault(Enum):
    """What is done to the bytes that come by."""

    NONE = "none"
    STALL = "stall"  #: hold everything back, new connections too; go on with it later
    HALF_OPEN = "half-open"  #: swallow everything; at the end the connections are reset
    SPLIT = "byte-split"  #: one byte per write
    THROTTLE = "throttle"  #: a trickle
    DELAY = "delay"  #: each piece later


THROTTLED_BYTES = 2048
THROTTLE_SECONDS = 0.1
DELAY_SECONDS = 0.15
#: A pause between bytes for the first ones only: a large frame must get through too.
SPLIT_BYTES = 512


class FaultProxy:
    """Listens on a port of its own and forwards to ``port`` of this machine."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.fault = Fault.NONE
        self._healed = asyncio.Event()
        self._healed.set()
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self.cut()

    def begin(self, fault: Fault) -> None:
        """Do ``fault`` to everything from now on."""
        self.fault = fault
        if fault is Fault.NONE:
            self._healed.set()
        else:
            self._healed.clear()

    async def heal(self) -> None:
        """Forward faithfully again; what was swallowed cannot be made good and is reset."""
        broken = [link for link in self._links if link.swallowed]
        self.begin(Fault.NONE)
        for link in broken:
            link.reset()

    async def cut(self) -> int:
        """Reset every connection; return how many there were."""
        links = list(self._links)
        for link in links:
            link.reset()
        if links:
            await asyncio.wait([link.task for link in links])
        return len(links)

    async def half_close(self) -> int:
        """Tell both ends that the other will say no more, while it could still listen."""
        links = list(self._links)
        for link in links:
            link.half_close()
        return len(links)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault is Fault.STALL:
            await self._healed.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        link = _Link(self, (reader, writer), (far_reader, far_writer))
        self._links.add(link)
        try:
            await link.forward()
        finally:
            self._links.discard(link)


Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    def __init__(self, proxy: FaultProxy, near: Side, far: Side) -> None:
        self.proxy = proxy
        self.near = near
        self.far = far
        self.swallowed = False
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[None] = task

    async def forward(self) -> None:
        ways = [
            asyncio.create_task(self._pump(self.near[0], self.far[1])),
            asyncio.create_task(self._pump(self.far[0], self.near[1])),
        ]
        try:
            await asyncio.wait(ways)
        finally:
            for way in ways:
                way.cancel()
            for _, writer in (self.near, self.far):
                writer.close()

    def reset(self) -> None:
        for _, writer in (self.near, self.far):
            _reset(writer)

    def half_close(self) -> None:
        for _, writer in (self.near, self.far):
            with contextlib.suppress(OSError):
                writer.write_eof()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._pass(data, writer)
            writer.write_eof()
        except OSError:  # one end was reset: the network would tell the other
            self.reset()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        match self.proxy.fault:
            case Fault.HALF_OPEN:
                self.swallowed = True
                return
            case Fault.STALL:
                await self.proxy._healed.wait()
            case Fault.DELAY:
                await asyncio.sleep(DELAY_SECONDS)
            case Fault.SPLIT:
                for index in range(min(len(data), SPLIT_BYTES)):
                    writer.write(data[index : index + 1])
                    await writer.drain()
                    await asyncio.sleep(0)
                data = data[SPLIT_BYTES:]
            case Fault.THROTTLE:
                while data and self.proxy.fault is Fault.THROTTLE:
                    writer.write(data[:THROTTLED_BYTES])
                    await writer.drain()
                    data = data[THROTTLED_BYTES:]
                    await asyncio.sleep(THROTTLE_SECONDS)
        if data and not self.swallowed:
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
