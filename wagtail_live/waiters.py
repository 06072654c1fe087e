"""
Those who wait until everything that was committed before they came has been read.

A reading serves who was there when it began: what it finds may be older than who comes during it.
"""

from __future__ import annotations

import asyncio


class Waiters:
    """A failed reading loses nobody: the next one serves them too."""

    def __init__(self) -> None:
        self._coming: list[asyncio.Future[None]] = []
        self._served: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._coming or self._served)

    def join(self) -> asyncio.Future[None]:
        """Return what is done when a reading that begins after this has left nothing out."""
        read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._coming.append(read)
        return read

    def begin(self) -> bool:
        """A reading begins. Return whether it serves anybody."""
        self._served += self._coming
        self._coming = []
        return bool(self._served)

    def tell(self) -> None:
        """The reading has left nothing out: tell those whom it serves."""
        for one in self._served:
            if not one.done():  # they may have gone
                one.set_result(None)
        self._served = []
