"""Reads the bodies of requests before they are needed, so that the service notices when a client disconnects.

What a client has sent comes before the end of its connection: a service that reads the body as it needs it would first
carry out all of that.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from starlette.exceptions import HTTPException
from starlette.requests import Request

from chassis.http import bodies

MAX_KEPT = 16_777_216
"""Bytes that a process keeps of all such bodies."""


class ReadAhead:
    """The bodies that are read ahead. Each may keep a piece, and all together `max_kept` bytes."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self.max_kept = max_kept
        self.kept = 0
        self.changed = asyncio.Condition()

    @asynccontextmanager
    async def read(self, request: Request, limit: int) -> AsyncIterator["Body"]:
        """Read a body of up to `limit` bytes, and watch the connection until the end of this context."""
        body = Body(self)
        reading = asyncio.create_task(body.read(request, limit))
        try:
            yield body
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            await body.discard()


class Body:
    """A body that is being read: an iterator of its pieces.

    An error of the upload, such as a disconnect, comes before the pieces that are kept.
    """

    def __init__(self, ahead: ReadAhead) -> None:
        self._ahead = ahead
        self._pieces: deque[bytes] = deque()
        self._complete = False
        self._error: Exception | None = None

    def check(self) -> None:
        """Raise the error of the upload, if there is one: HTTPException with status 400, 408 or 413."""
        if self._error is not None:
            raise self._error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        async with self._ahead.changed:
            await self._ahead.changed.wait_for(lambda: self._pieces or self._complete or self._error)
            self.check()
            if not self._pieces:
                raise StopAsyncIteration
            piece = self._pieces.popleft()
            self._ahead.kept -= len(piece)
            self._ahead.changed.notify_all()
            return piece

    async def read(self, request: Request, limit: int) -> None:
        """Read the body, then wait for the end of the connection."""
        try:
            async for piece in bodies.chunks(request, limit):
                if piece:
                    await self._keep(piece)
            self._complete = True
            await self._notify()
            if (await request.receive())["type"] == "http.disconnect":
                raise HTTPException(400, "The client has disconnected.")
        except Exception as error:
            self._error = error
            await self._notify()

    async def discard(self) -> None:
        self._ahead.kept -= sum(map(len, self._pieces))
        self._pieces.clear()
        await self._notify()

    async def _keep(self, piece: bytes) -> None:
        async with self._ahead.changed:
            await self._ahead.changed.wait_for(lambda: not self._pieces or self._ahead.kept < self._ahead.max_kept)
            self._pieces.append(piece)
            self._ahead.kept += len(piece)
            self._ahead.changed.notify_all()

    async def _notify(self) -> None:
        async with self._ahead.changed:
            self._ahead.changed.notify_all()
