"""Measures what a call to /validate-token costs the client, for several clients and a cheap server.

    python3 dev.py bench validation-client                    half a minute
    python3 dev.py bench validation-client --concurrency 1    one call after the other

The server is a separate process that answers every request with the same bytes, those of the contract. The clients are
httpx with its own transport, httpx with that of aiohttp, aiohttp without httpx, and the client of the product service,
which adds the deadline, the call slots, the breaker, a log line and the validation of the answer. Each keeps its
connections open. A round makes the same number of calls with every client, in random order, so other load on the
machine affects all of them alike; ratios are computed within a round. CPU is that of this process, which contains only
the client.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from auth_client.client import AuthClient
from chassis import logs

CONTRACT = Path(__file__).resolve().parents[1] / "contracts" / "validate-token.json"
TOKEN = "x" * 300  # As long as a real one.
WARM_UP = 2  # rounds
REFERENCE = "httpx"
OURS = "the product service's"

Call = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Cost:
    """The cost of one call, in seconds."""

    elapsed: float
    cpu: float


Costs = Mapping[str, Sequence[Cost]]
"""One cost per round, by client."""


# The server


class Constant(asyncio.Protocol):
    """Answers each complete request with the same bytes; the clients send a request in one or two pieces."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        head, end, body = self._pending.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if end and len(body) >= int(length):
            self._pending = b""
            assert isinstance(self._transport, asyncio.WriteTransport)
            self._transport.write(self._answer)


def serve(port: Connection) -> None:
    """Send the port, then answer requests until the process is killed."""
    body = json.dumps(json.loads(CONTRACT.read_text(encoding="utf-8"))["interactions"][0]["body"]).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Constant(head.encode() + body), "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def server() -> Iterator[str]:
    """The URL of a running server."""
    spawning = multiprocessing.get_context("spawn")
    receiving, sending = spawning.Pipe(duplex=False)
    process = spawning.Process(target=serve, args=(sending,), daemon=True)
    process.start()
    try:
        if not receiving.poll(30):
            raise TimeoutError("the server has not started")
        yield f"http://127.0.0.1:{receiving.recv()}"
    finally:
        process.kill()
        process.join()


# The measurement


async def calls_by_client(url: str, cleanup: AsyncExitStack) -> dict[str, Call]:
    """Functions that make one call, by client; every answer is read and decoded."""
    plain = await cleanup.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False))
    transport = AiohttpTransport()
    on_aiohttp = await cleanup.enter_async_context(
        httpx.AsyncClient(base_url=url, trust_env=False, transport=transport)
    )
    session = await cleanup.enter_async_context(aiohttp.ClientSession(url))
    ours = AuthClient(url, timeout=60)
    cleanup.push_async_callback(ours.close)

    def with_httpx(client: httpx.AsyncClient) -> Call:
        async def call() -> None:
            answer = await client.post("/validate-token", json={"token": TOKEN})
            _require(answer.json())

        return call

    async def with_aiohttp() -> None:
        async with session.post("/validate-token", json={"token": TOKEN}) as answer:
            _require(await answer.json())

    async def with_ours() -> None:
        await ours.validate(TOKEN)

    return {
        REFERENCE: with_httpx(plain),
        "httpx on aiohttp": with_httpx(on_aiohttp),
        "aiohttp": with_aiohttp,
        OURS: with_ours,
    }


def _require(answer: Mapping[str, object]) -> None:
    if answer["valid"] is not True:
        raise ValueError("a call got an unexpected answer")


async def cost_of(call: Call, calls: int, concurrency: int) -> Cost:
    """The cost per call, with this many calls in total and at a time."""

    async def work() -> None:
        for _ in range(calls // concurrency):
            await call()

    elapsed, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    made = calls // concurrency * concurrency
    return Cost((time.perf_counter() - elapsed) / made, (time.process_time() - cpu) / made)


async def measure(url: str, rounds: int, calls: int, concurrency: int, rng: random.Random) -> Costs:
    async with AsyncExitStack() as cleanup:
        call_with = await calls_by_client(url, cleanup)
        costs: dict[str, list[Cost]] = {name: [] for name in call_with}
        for number in range(-WARM_UP, rounds):
            for name in rng.sample(list(call_with), len(call_with)):
                cost = await cost_of(call_with[name], calls, concurrency)
                if number >= 0:
                    costs[name].append(cost)
    return costs


# The report


def report(costs: Costs) -> list[str]:
    """Medians over the rounds; for the ratio to httpx also the 10th and 90th percentiles."""
    lines = [f"{'client':<24}{'calls/s':>10}{'CPU per call':>14}    CPU against {REFERENCE}"]
    for name, each in costs.items():
        ratios = [one.cpu / reference.cpu for one, reference in zip(each, costs[REFERENCE], strict=True)]
        tenths = quantiles(ratios, n=10)
        lines.append(
            f"{name:<24}{1 / median(cost.elapsed for cost in each):10.0f}"
            f"{median(cost.cpu for cost in each) * 1e6:11.0f} us"
            f"    {median(ratios):.2f} [{tenths[0]:.2f}, {tenths[-1]:.2f}]"
        )
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what a call to /validate-token costs the client.")
    parser.add_argument("--rounds", type=int, default=30, help="number of rounds (%(default)s)")
    parser.add_argument("--calls", type=int, default=200, help="calls per client and round (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=10, help="calls at a time (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides the order of the clients (%(default)s)")
    args = parser.parse_args()
    if args.rounds < 2 or not 1 <= args.concurrency <= args.calls:
        parser.error("--rounds must be at least 2, and --concurrency between 1 and --calls")
    return args


def main() -> int:
    args = arguments()
    rng = random.Random(args.seed)
    with server() as url, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        # The log line of each call is formatted as in production, but not written to a terminal.
        logs.configure("bench", "INFO", "json", nowhere)
        costs = asyncio.run(measure(url, args.rounds, args.calls, args.concurrency, rng))
    print(f"{args.rounds} rounds of {args.calls} calls, {args.concurrency} at a time; Python {sys.version.split()[0]}")
    print("\n".join(report(costs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
