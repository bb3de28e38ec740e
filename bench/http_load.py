"""Sends requests over kept connections as fast as the responses arrive."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from urllib.parse import urlsplit

CLOSED = 0


@dataclass
class Load:
    """What a number of requests brought."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """In seconds, one per response."""
    statuses: Counter[int] = field(default_factory=Counter)
    """CLOSED is that of requests without a response."""


def percentile(latencies: Sequence[float], percent: int) -> float:
    return quantiles(latencies, n=100, method="inclusive")[percent - 1] if len(latencies) > 1 else latencies[0]


def request_bytes(method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """A complete HTTP/1.1 request."""
    address = urlsplit(url)
    target = address.path + (f"?{address.query}" if address.query else "")
    fields = {"Host": address.netloc, **(headers or {})}
    if body:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


async def send(url: str, request: bytes, *, count: int, connections: int) -> Load:
    """Send the same request `count` times over so many connections, each with one request at a time.

    A connection that the server closes is replaced.
    """
    load = Load()
    left = count

    async def one_connection() -> None:
        nonlocal left
        reader, writer = await connect(url)
        try:
            while left > 0:
                left -= 1
                started = time.perf_counter()
                writer.write(request)
                status = await read_status(reader)
                load.latencies.append(time.perf_counter() - started)
                load.statuses[status] += 1
        finally:
            writer.close()

    async def replaced_connection() -> None:
        while left > 0:
            try:
                await one_connection()
            except (ConnectionError, asyncio.IncompleteReadError):
                load.statuses[CLOSED] += 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(replaced_connection())
    load.seconds = time.perf_counter() - started
    return load


async def watch(url: str, requests: Mapping[str, bytes], *, until: Callable[[], bool]) -> dict[str, Load]:
    """What a bystander notices, who sends the requests in turn, each over a new connection."""
    seen = {name: Load() for name in requests}
    while not until():
        for name, request in requests.items():
            load = await send(url, request, count=1, connections=1)
            seen[name].latencies += load.latencies
            seen[name].statuses += load.statuses
        await asyncio.sleep(0.01)
    return seen


async def read_status(reader: asyncio.StreamReader) -> int:
    """Read a response with a Content-Length, and return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if found:
        await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    return int(head[9:12])
