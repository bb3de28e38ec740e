"""Measures both services as replicas: one, two and four processes of each behind HAProxy, on one PostgreSQL.

    python3 dev.py bench scale-out            two minutes, if nothing else runs
    python3 dev.py bench scale-out --short    proves only that it works
    python3 dev.py bench scale-out --write    writes bench/RESULTS-scale-out.md as well

All of them run at the same time, each with databases of their own. A round sends each call to each of them, in random
order. Everything runs on this machine, also the load generator, which is one process. So the table has the CPU time of
each part, and the text below it says what limits the throughput, and what the CPU times would allow on more cores.
"""

import asyncio
import json
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median

import psutil
import psycopg2

from bench import report
from bench.contenders import DRAFT
from bench.http_load import percentile, request_bytes, send
from bench.usage import cpu_of_tree, pid_of_server
from testkit.databases import POSTGRESQL, SERVER_URL_VARIABLE, NewDatabase
from testkit.processes import Account
from tests.gateways.replicas import ReplicatedServices, replicated_services
from tests.proof.prove import databases

PROCESSES, SHORT_PROCESSES = (1, 2, 4), (1, 2)
CONNECTIONS = 16
ROUNDS = 3
REQUESTS, SHORT_REQUESTS = 800, 160
PRODUCTS = 100
BUSY = 0.85
"""The share of its most that makes a resource count as saturated."""

READ, VALIDATION = "GET /products?limit=20", "POST /validate-token"
ONE_OWNER, MANY_OWNERS = "POST /products, one account", f"POST /products, {CONNECTIONS} accounts"
USERS, PRODUCTS_SERVICE, BALANCER, DATABASE, GENERATOR = (
    *("user-service", "product-service", "HAProxy", "PostgreSQL", "load generator"),
)
SERVICES = (USERS, PRODUCTS_SERVICE)
PARTS = (*SERVICES, BALANCER, DATABASE, GENERATOR)
MACHINE = "the machine"

LOCKED = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND wait_event_type = 'Lock'"


@dataclass(frozen=True)
class Sample:
    """What a load brought, or the medians of several."""

    rate: float
    """Requests per second."""
    p50: float
    p99: float
    """Both in seconds."""
    cpu: Mapping[str, float]
    """CPU seconds per request, of each of the PARTS."""
    busy: float
    """Cores of the machine that were busy, with whatever else ran."""
    locked: float
    """Statements that waited for a lock, on average."""

    @property
    def used(self) -> float:
        """Cores that all parts used."""
        return self.rate * sum(self.cpu.values())


Samples = Mapping[tuple[str, int], Sample]
"""By call and number of processes of each service."""


def medians(samples: Sequence[Sample]) -> Sample:
    numbers = {
        name: median(getattr(each, name) for each in samples) for name in ("rate", "p50", "p99", "busy", "locked")
    }
    return Sample(**numbers, cpu={part: median(each.cpu[part] for each in samples) for part in samples[0].cpu})


@dataclass
class Site:
    """Replicas of both services, and accounts."""

    services: ReplicatedServices
    accounts: Sequence[Account]

    def requests(self) -> dict[str, tuple[str, list[bytes]]]:
        """The address of the service, and the bytes of the requests, of each call."""
        users, products = self.services.users.url, self.services.products.url
        draft = json.dumps(DRAFT).encode()
        token = json.dumps({"token": self.accounts[0].token}).encode()
        writes = [request_bytes("POST", f"{products}/products", each.bearer, draft) for each in self.accounts]
        return {
            READ: (products, [request_bytes("GET", f"{products}/products?limit=20")]),
            VALIDATION: (users, [request_bytes("POST", f"{users}/validate-token", body=token)]),
            ONE_OWNER: (products, writes[:1]),
            MANY_OWNERS: (products, writes),
        }

    def cpu(self) -> dict[str, float]:
        """The CPU seconds so far of the PARTS."""
        both = (self.services.users, self.services.products)
        trees = {each.name: [instance.pid for instance in each.instances] for each in both}
        trees[BALANCER] = [each.balancer.pid for each in both]
        trees[DATABASE] = [pid_of_server(self.services.users.instances[0])]
        seconds = {part: sum(map(cpu_of_tree, pids)) for part, pids in trees.items()}
        return {**seconds, GENERATOR: time.process_time()}

    async def measure(self, call: str, count: int) -> Sample:
        url, requests = self.requests()[call]
        share = partial(send, url, count=count // len(requests), connections=CONNECTIONS // len(requests))
        before = self.cpu()
        async with counting_locks() as locked:
            busy, started = _busy_seconds(), time.perf_counter()
            loads = await asyncio.gather(*(share(each) for each in requests))
            seconds, busy = time.perf_counter() - started, _busy_seconds() - busy
        cpu = {part: (after - before[part]) / count for part, after in self.cpu().items()}
        statuses = {status for each in loads for status in each.statuses}
        assert statuses <= {200, 201}, f"{call}: {statuses}"
        latencies = [latency for each in loads for latency in each.latencies]
        p50, p99 = (percentile(latencies, percent) for percent in (50, 99))
        return Sample(count / seconds, p50, p99, cpu, busy / seconds, mean(locked or [0]))


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times[:8])) - times.idle - times.iowait  # The further ones, of guests, are part of the first two.


@asynccontextmanager
async def counting_locks() -> AsyncIterator[list[int]]:
    """Appends to a list, 20 times a second, how many statements wait for a lock."""
    found: list[int] = []

    async def count() -> None:
        connection = psycopg2.connect(os.environ[SERVER_URL_VARIABLE])
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                while True:
                    await asyncio.sleep(0.05)
                    await asyncio.to_thread(cursor.execute, LOCKED)
                    found.append(cursor.rowcount)
        finally:
            connection.close()

    task = asyncio.create_task(count())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def measure(sites: Mapping[int, Site], rounds: int, count: int) -> Samples:
    """A first round, which is not measured, warms up."""
    found: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)
    for number in range(rounds + 1):
        cells = [(call, processes) for call in next(iter(sites.values())).requests() for processes in sites]
        random.shuffle(cells)
        for call, processes in cells:
            sample = await sites[processes].measure(call, count if number else 4 * CONNECTIONS)
            if number:
                found[call, processes].append(sample)
    return {cell: medians(samples) for cell, samples in found.items()}


# The results


def table(found: Samples, cores: int) -> Iterator[str]:
    columns = ["call", "processes", "requests/s", "p50 ms", "p99 ms", *(f"{part} µs" for part in PARTS), "all µs"]
    columns += [f"of {cores} cores: these", "all programs", "waiting for locks"]
    yield f"| {' | '.join(columns)} |"
    yield "|---|" + "---:|" * (len(columns) - 1)
    for (call, processes), each in sorted(found.items()):
        latencies = [f"{1e3 * seconds:.0f}" for seconds in (each.p50, each.p99)]
        cpu = [f"{1e6 * seconds:,.0f}" for seconds in (*(each.cpu[part] for part in PARTS), sum(each.cpu.values()))]
        cells = [f"`{call}`", f"{processes}", f"{each.rate:,.0f}", *latencies, *cpu]
        cells += [f"{each.used:.2f}", f"{each.busy:.2f}", f"{each.locked:.1f}"]
        yield f"| {' | '.join(cells)} |"


def explanations(found: Samples, cores: int) -> Iterator[str]:
    """For each call, what limits its throughput, and what its CPU times say about more cores."""
    for call in sorted({call for call, _ in found}):
        by_processes = {processes: each for (name, processes), each in sorted(found.items()) if name == call}
        (fewest, *_, most) = by_processes
        first, last = by_processes[fewest], by_processes[most]
        ratio = sum(last.cpu[part] for part in SERVICES) / sum(first.cpu[part] for part in SERVICES)
        rate = most / max(last.cpu[part] for part in SERVICES)
        needed = rate * (sum(last.cpu.values()) - last.cpu[GENERATOR])
        factor = (
            f"{most} processes of each service handle {last.rate / first.rate:.1f} times as many requests as {fewest}."
        )
        limits = [f"With {number}, {_limit(each, number, cores)}." for number, each in by_processes.items()]
        cost = f"A request costs the services {ratio:.2f} times as much CPU time with {most} as with {fewest}."
        possible = (
            f"By CPU time alone, enough cores would let {most} handle {rate:,.0f} per second, with {needed:.1f} cores:"
        )
        parts = " and ".join(f"{rate * last.cpu[part]:.1f} for {part}" for part in (DATABASE, BALANCER))
        sentences = [factor, *limits, cost, f"{possible} {parts} among them."]
        if last.locked >= 1:
            waiting = f"But {last.locked:.1f} of {CONNECTIONS} requests wait for a lock of {DATABASE}"
            sentences.append(f"{waiting}, which neither cores nor processes change.")
        yield f"- `{call}`: {' '.join(sentences)}"


def _limit(sample: Sample, processes: int, cores: int) -> str:
    """What saturates first, in words."""
    shares = {MACHINE: sample.busy / cores, f"the {GENERATOR}": sample.rate * sample.cpu[GENERATOR]}
    for part in SERVICES:
        shares[f"the {part}"] = sample.rate * sample.cpu[part] / processes
    name, share = max(shares.items(), key=lambda item: item[1])
    if share < BUSY:
        return f"nothing is saturated, {name} most, at {100 * share:.0f} %: requests wait for each other"
    if name == MACHINE:
        others = sample.busy - sample.used
        words = f"the machine is saturated: {sample.busy:.2f} of its {cores} cores are busy"
        return f"{words}, {others:.2f} of them with other programs" if others > 0.1 * cores else words
    each = "each process of " if processes > 1 and GENERATOR not in name else ""
    return f"{each}{name} is saturated, at {100 * share:.0f} % of a core"


def sites(folder: Path, new_database: NewDatabase, processes: Sequence[int], cleanup: ExitStack) -> dict[int, Site]:
    """Start replicas of both services, so many of each, with accounts and a few products."""
    limits = {"MAX_PRODUCTS_PER_ACCOUNT": "1000000", "LOG_LEVEL": "WARNING"}
    made = {}
    for number in processes:
        replicas = replicated_services(folder / str(number), partial(new_database, None), number, limits)
        services = cleanup.enter_context(replicas)
        site = made[number] = Site(services, [services.sign_up() for _ in range(CONNECTIONS)])
        lines = "\n".join(json.dumps({**DRAFT, "name": f"Lamp {number}"}) for number in range(PRODUCTS))
        headers = {**site.accounts[0].bearer, "Content-Type": "application/x-ndjson"}
        with services.products.client(headers=headers) as client:
            client.post("/products/import", content=lines).raise_for_status()
    return made


def results(*, short: bool) -> Iterator[str]:
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        new_database = cleanup.enter_context(databases(POSTGRESQL, folder))
        running = sites(folder, new_database, SHORT_PROCESSES if short else PROCESSES, cleanup)
        rounds, count = (1, SHORT_REQUESTS) if short else (ROUNDS, REQUESTS)
        yield f"{CONNECTIONS} connections, medians of {rounds} rounds of {count} requests; {report.machine()}."
        yield "CPU times are per request. Each process of a service, and the load generator, can use about one core."
        yield ""
        found = asyncio.run(measure(running, rounds, count))
        yield from table(found, cores)
        yield ""
        yield from explanations(found, cores)


def main() -> None:
    options = report.parser("scale-out", __doc__, POSTGRESQL)
    args = options.parse_args()
    if args.database not in (None, [POSTGRESQL]):
        options.error("replicas share a PostgreSQL")
    report.report("scale-out", results(short=args.short), write=args.write)


if __name__ == "__main__":
    main()
