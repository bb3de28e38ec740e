"""What requests may take: time for their bodies, and slots among the requests of their operation."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.errors import Overloaded

MIN_BODY_RATE = 4096  # bytes per second


class BodyTimeout:
    """Raises HTTPException with status 408 where the application reads a body that is too slow.

    Each request has an allowance of seconds to wait for its client. Waiting uses it up, and what arrives fills it
    again, a second for MIN_BODY_RATE bytes. So a long upload may take long, but neither stop nor drip. The time that
    the application takes between two reads does not count.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        """:param seconds: the allowance"""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        complete = scope["type"] != "http"
        allowance = self._seconds
        now = asyncio.get_running_loop().time

        async def receive_in_time() -> Message:
            nonlocal complete, allowance
            if complete:  # What follows is the end of the connection, at any time.
                return await receive()
            started = now()
            try:
                async with asyncio.timeout(allowance):
                    message = await receive()
            except TimeoutError:
                detail = (
                    f"The body did not arrive in time: it paused for {self._seconds:g} seconds, "
                    f"or was that far behind {MIN_BODY_RATE // 1024} KiB per second."
                )
                raise HTTPException(408, detail, {"Connection": "close"}) from None
            arrived = len(message.get("body", b"")) / MIN_BODY_RATE
            allowance = min(self._seconds, allowance - (now() - started) + arrived)
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)


class Slots:
    """Bounds the requests of one operation that are in progress. A flood of them leaves other operations alone.

    A request has no slot while it waits for its client to send the body. So clients that are slow on purpose keep no
    other client out.
    """

    def __init__(self) -> None:
        self._taken = 0

    @contextmanager
    def taken(self, limit: int, receive: Receive) -> Iterator[Receive]:
        """Take a slot; yields a `receive` that releases it while it waits for the body.

        Both raise Overloaded if `limit` requests are in progress.
        """
        complete = False

        async def receive_without_slot() -> Message:
            nonlocal complete
            if complete:  # What follows is the end of the connection.
                return await receive()
            self._taken -= 1
            try:
                message = await receive()
            finally:
                self._taken += 1
            if self._taken > limit:
                raise Overloaded
            complete = not message.get("more_body", False)
            return message

        self._taken += 1
        try:
            if self._taken > limit:
                raise Overloaded
            yield receive_without_slot
        finally:
            self._taken -= 1
