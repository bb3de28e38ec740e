"""Measures both services with more workers, more connections, and clients that keep connections open.

    python3 dev.py bench load-scale                        on PostgreSQL: four minutes, if nothing else runs
    python3 dev.py bench load-scale --database sqlite      on SQLite
    python3 dev.py bench load-scale --short                proves only that it works
    python3 dev.py bench load-scale --write                writes bench/RESULTS-load-scale.md as well

The services with one, two and four workers run at the same time, each with databases of their own. A round sends each
call over each number of connections to each of them, in random order. The limits of connections and of concurrent
requests are the default ones, so a single worker refuses some of a thousand requests at once.
"""

import asyncio
import itertools
import json
import random
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import report
from bench.contenders import DRAFT
from bench.http_load import CLOSED, Load, connect, percentile, read_status, request_bytes, send, watch
from bench.usage import cpu_of, memory_of
from testkit.databases import POSTGRESQL, NewDatabase
from testkit.processes import Account, Services, running_services
from tests.proof.prove import databases

WORKERS, SHORT_WORKERS = (1, 2, 4), (2,)
CONNECTIONS, SHORT_CONNECTIONS = (16, 128, 1_024), (16, 64)
IDLE, SHORT_IDLE = 5_000, 500
SLOW, SHORT_SLOW = 200, 50
SECONDS, SHORT_SECONDS = 15.0, 1.0
"""How long a bystander is watched."""
ROUNDS = 3
REQUESTS = 300
"""Of a call in a round, and at least one for each connection."""
PRODUCTS = 100
READ, WRITE = "GET /products?limit=20", "POST /products"
MEBIBYTE = 1 << 20


@dataclass
class Site:
    """The services with a number of workers, a caller with an account, and a few products."""

    services: Services
    account: Account

    def requests(self) -> dict[str, tuple[str, bytes]]:
        """The address of the service, and the bytes of the request, of each call."""
        users, products = self.services.users.url, self.services.products.url
        draft, token = json.dumps(DRAFT).encode(), json.dumps({"token": self.account.token}).encode()
        return {
            READ: (products, request_bytes("GET", f"{products}/products?limit=20")),
            "POST /validate-token": (users, request_bytes("POST", f"{users}/validate-token", body=token)),
            WRITE: (
                products,
                request_bytes("POST", f"{products}/products", self.account.bearer, draft),
            ),
        }


Cell = tuple[str, int, int]
"""A call, a number of workers and a number of connections."""
Loads = Mapping[Cell, list[tuple[Load, float]]]
"""Those of the rounds, each with the CPU seconds of the services per request."""


async def measure(sites: Mapping[int, Site], connections: tuple[int, ...], rounds: int, count: int) -> Loads:
    found: defaultdict[Cell, list[tuple[Load, float]]] = defaultdict(list)
    for _ in range(rounds):
        cells = [*itertools.product(next(iter(sites.values())).requests(), sites, connections)]
        random.shuffle(cells)
        for call, workers, number in cells:
            site = sites[workers]
            url, request = site.requests()[call]
            before, requests = cpu_of(site.services), max(count, number)
            load = await send(url, request, count=requests, connections=number)
            found[call, workers, number].append((load, (cpu_of(site.services) - before) / requests))
    return found


def table(found: Loads) -> Iterator[str]:
    yield "| call | workers | connections | successes/s | p50 ms | p99 ms | CPU ms | other responses |"
    yield "|---|---:|---:|---:|---:|---:|---:|---|"
    for (call, workers, connections), rounds in sorted(found.items()):
        loads = [load for load, _ in rounds]
        rate = median(_successes(load) / load.seconds for load in loads)
        p50, p99 = (1000 * median(percentile(load.latencies, percent) for load in loads) for percent in (50, 99))
        cpu = 1000 * median(cpu for _, cpu in rounds)
        cells = [f"`{call}`", workers, f"{connections:,}", f"{rate:,.0f}", f"{p50:,.0f}", f"{p99:,.0f}", f"{cpu:.1f}"]
        yield f"| {' | '.join(map(str, cells))} | {_others(loads)} |"


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _successes(load: Load) -> int:
    return sum(count for status, count in load.statuses.items() if _is_success(status))


def _others(loads: Sequence[Load]) -> str:
    """The shares of responses that are no successes, and of connections that were closed without one."""
    statuses = sum((load.statuses for load in loads), Counter[int]())
    shares = (
        f"{100 * count / statuses.total():.0f} % {'closed' if status == CLOSED else status}"
        for status, count in sorted(statuses.items())
        if not _is_success(status)
    )
    return ", ".join(shares) or "none"


@contextmanager
def running(folder: Path, new_database: NewDatabase, **settings: str) -> Iterator[Site]:
    """The services, with one account and a few products."""
    limits = {"MAX_PRODUCTS_PER_ACCOUNT": "1000000", "LOG_LEVEL": "WARNING"}
    with running_services(folder, lambda: new_database(None), **limits, **settings) as services:
        account = services.sign_up()
        lines = "\n".join(json.dumps({**DRAFT, "name": f"Lamp {number}"}) for number in range(PRODUCTS))
        headers = {**account.bearer, "Content-Type": "application/x-ndjson"}
        with services.products.client(headers=headers) as client:
            client.post("/products/import", content=lines).raise_for_status()
        yield Site(services, account)


async def idle_and_slow_clients(site: Site, idle: int, slow: int, seconds: float) -> list[str]:
    """A table of what a bystander notices of clients that keep connections open, and of what these cost."""
    before = memory_of(site.services)
    rows = [
        "| beside | memory MiB | CPU % | read p50 ms | p99 ms | write p50 ms | p99 ms | other responses |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
        await bystander(site, "no other client", before, seconds),
    ]
    async with holding_idle(site, idle):
        rows.append(await bystander(site, f"{idle:,} idle connections", before, seconds))
    rows.append(await bystander(site, "no other client, after that", before, seconds))
    async with sending_slowly(site, slow):
        rows.append(await bystander(site, f"{slow:,} clients that send a byte a second", before, seconds))
    return rows


async def bystander(site: Site, beside: str, memory_before: int, seconds: float) -> str:
    """A table row: the latencies of a client with a new connection per request, and what the services use meanwhile."""
    url, read = site.requests()[READ]
    _, write = site.requests()[WRITE]
    memory, cpu = memory_of(site.services) - memory_before, cpu_of(site.services)
    await asyncio.sleep(seconds / 4)
    cpu = 400 * (cpu_of(site.services) - cpu) / seconds
    deadline = time.monotonic() + seconds
    seen = await watch(url, {READ: read, WRITE: write}, until=lambda: time.monotonic() > deadline)
    latencies = [percentile(load.latencies, percent) for load in seen.values() for percent in (50, 99)]
    cells = [beside, f"{memory / MEBIBYTE:.1f}", f"{cpu:.1f}", *(f"{1000 * each:.0f}" for each in latencies)]
    return f"| {' | '.join(cells)} | {_others([*seen.values()])} |"


@asynccontextmanager
async def holding_idle(site: Site, count: int) -> AsyncIterator[None]:
    """Connections that have had a response, and wait."""
    url, request = site.requests()[READ]
    with ExitStack() as cleanup:
        for _ in range(count):
            reader, writer = await connect(url)
            cleanup.callback(writer.close)
            writer.write(request)
            await read_status(reader)
        yield


@asynccontextmanager
async def sending_slowly(site: Site, count: int) -> AsyncIterator[None]:
    """Clients that send their requests slowly: half of them from the second byte on, half of them only the body."""
    url, request = site.requests()[WRITE]
    starts = (request[:1], request[: request.index(b"\r\n\r\n") + 4])
    clients = [asyncio.create_task(trickle(url, request, starts[number % 2])) for number in range(count)]
    await asyncio.sleep(1)
    try:
        yield
    finally:
        for each in clients:
            each.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def trickle(url: str, request: bytes, start: bytes) -> None:
    """Send a request, after its start a byte a second, again and again."""
    while True:
        with suppress(ConnectionError):
            _, writer = await connect(url)
            try:
                writer.write(start)
                for position in range(len(start), len(request)):
                    await asyncio.sleep(1)
                    writer.write(request[position : position + 1])
                    await writer.drain()
            finally:
                writer.close()


def results_on(backend: str, *, short: bool) -> Iterator[str]:
    workers, connections = (SHORT_WORKERS, SHORT_CONNECTIONS) if short else (WORKERS, CONNECTIONS)
    rounds, count = (1, 64) if short else (ROUNDS, REQUESTS)
    idling, slow_clients, seconds = (SHORT_IDLE, SHORT_SLOW, SHORT_SECONDS) if short else (IDLE, SLOW, SECONDS)
    # Before the first service starts, which inherits it.
    idling = min(idling, (raise_file_limit(2 * idling + 1_000) - 1_000) // 2)
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        new_database = cleanup.enter_context(databases(backend, folder))
        with ExitStack() as stopping:
            sites = {
                number: stopping.enter_context(running(folder / str(number), new_database, WORKERS=str(number)))
                for number in workers
            }
            before = {number: memory_of(site.services) for number, site in sites.items()}
            yield from table(asyncio.run(measure(sites, connections, rounds, count)))
            yield ""
            for number, site in sites.items():
                size = "1 worker" if number == 1 else f"{number} workers"
                yield (
                    f"Memory of both services with {size} each: {before[number] / MEBIBYTE:.0f} MiB before, "
                    f"{memory_of(site.services) / MEBIBYTE:.0f} MiB after all of the above."
                )
        site = cleanup.enter_context(running(folder / "idle", new_database, MAX_CONNECTIONS=str(idling + 100)))
        yield ""
        yield from asyncio.run(idle_and_slow_clients(site, idling, slow_clients, seconds))


def raise_file_limit(wanted: int) -> int:
    """Let this process, and those that it starts, open so many files, or as many as it may; returns the number."""
    present, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(present, wanted if most == resource.RLIM_INFINITY else min(wanted, most))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    return allowed


def main() -> None:
    args = report.parser("load-scale", __doc__, POSTGRESQL).parse_args()

    def lines() -> Iterator[str]:
        yield f"Medians of {1 if args.short else ROUNDS} rounds; {report.machine()}."
        for backend in args.database or [POSTGRESQL]:
            yield from ("", f"## {report.TITLES[backend]}", "")
            yield from results_on(backend, short=args.short)

    report.report("load-scale", lines(), write=args.write)


if __name__ == "__main__":
    main()
