"""A user service on a real socket that misbehaves as scripted, byte by byte."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from testkit.user_service_stub import VALID


class Request:
    """A complete request, and the connection that it came on."""

    def __init__(self, number: int, connection: int, position: int, head: bytes, writer: asyncio.StreamWriter) -> None:
        self.number = number
        """The number of the request, from 1."""
        self.connection = connection
        """The number of the connection, from 1."""
        self.position = position
        """The position of the request on its connection, from 1."""
        self.head = head
        self._writer = writer

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def drip(self, content: bytes) -> None:
        """Send byte by byte: no single read times out, but the whole takes longer than any client waits."""
        for byte in content:
            await self.send(bytes([byte]))
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        self._writer.close()

    async def reset(self) -> None:
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Request], Awaitable[None]]
"""Called once per request. The connection stays open for the next one unless the script closes it."""


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A complete response. Header names use `_` for `-`; an empty value omits the header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = {"Content-Type": "application/json", "Content-Length": str(len(body)), **named}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in head.items() if value)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def valid(**changes: Any) -> bytes:
    return json.dumps({**VALID, **changes}).encode()


class FaultyUserService:
    def __init__(self, script: Script, greeting: bytes = b"", host: str = "127.0.0.1", port: int = 0) -> None:
        """
        :param greeting: sent on each connection before the first request
        :param port: 0 for a free one
        """
        self.script = script
        self._address = (host, port)
        self._greeting = greeting
        self.connections = 0
        self.requests = 0

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, *self._address)
        host, self.port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        connection, position = self.connections, 0
        # The client closes the connection after an invalid response.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.write(self._greeting)
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                self.requests += 1
                position += 1
                await self.script(Request(self.requests, connection, position, head, writer))
        writer.close()
        self._tasks.discard(task)
