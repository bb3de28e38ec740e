"""Measures both services against two references: the floor, and what people write from tutorials.

    python3 dev.py bench                               all of it, on both databases: twenty minutes
    python3 dev.py bench --database sqlite             on one database
    python3 dev.py bench --short                       proves only that it works
    python3 dev.py bench --write                       writes bench/RESULTS.md as well

`bench/floor.py` is the least that the services could do; `bench/usual.py` is what tutorials show. All of them run at
the same time, each with one worker a service and a database of its own. A round sends each call to each of them, in
random order, so other load on the machine affects all alike. CPU is that of the service processes, without the database
server and the client. The tables have medians of the rounds, and ratios of the CPU times.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import bcrypt

from bench import report
from bench.contenders import (
    CALLS,
    FLOOR,
    LOGIN,
    OURS,
    PROTECTED,
    PUBLIC,
    USUAL,
    VALIDATION,
    Call,
    Contender,
    Starter,
    starter,
)
from bench.http_load import Load, percentile, request_bytes, send, watch
from tests.proof.prove import databases

CONNECTIONS = 16
STORM = 200
"""Logins at once."""

Measurements = dict[tuple[str, str], list[tuple[Load, float]]]
"""The loads of each call and contender, one for each round, each with the CPU seconds per request."""


async def measured(contenders: Sequence[Contender], rounds: int, count: int) -> Measurements:
    """A first round, which is not measured, warms up."""
    found: Measurements = {(call.name, each.name): [] for call in CALLS for each in contenders}
    for number in range(rounds + 1):
        pairs = [(call, each) for call in CALLS for each in contenders]
        random.shuffle(pairs)
        for call, each in pairs:
            requests = max(int(count * call.share), CONNECTIONS) if number else 4 * CONNECTIONS
            measurement = await each.measure(call, requests, CONNECTIONS)
            if number:
                found[call.name, each.name].append(measurement)
    return found


def table_of_calls(found: Measurements) -> Iterator[str]:
    yield "| call | | requests/s | CPU µs | x floor | x usual | p50 ms | p99 ms |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for call in CALLS:
        costs = {name: median(cpu for _, cpu in found[call.name, name]) for name in (FLOOR, USUAL, OURS)}
        for name, cost in costs.items():
            loads = [load for load, _ in found[call.name, name]]
            rate = median(len(each.latencies) / each.seconds for each in loads)
            p50, p99 = (1000 * median(percentile(each.latencies, percent) for each in loads) for percent in (50, 99))
            yield (
                f"| {f'`{call.name}`' if name == FLOOR else ''} | {name} | {rate:,.0f} | {cost * 1e6:,.0f} "
                f"| {cost / costs[FLOOR]:.1f} | {cost / costs[USUAL]:.2f} | {p50:.1f} | {p99:.1f} |"
            )


async def validation_cost(ours: Contender, rounds: int, count: int, floor: float) -> str:
    """What a validation adds to a request.

    :param floor: the CPU seconds of a read at the floor
    """
    costs: dict[Call, list[float]] = {PUBLIC: [], PROTECTED: [], VALIDATION: []}
    for _ in range(rounds):
        for call, measured_costs in costs.items():
            measured_costs.append((await ours.measure(call, count, CONNECTIONS))[1])
    added = median(costs[PROTECTED]) - median(costs[PUBLIC])
    rest = added - median(costs[VALIDATION])
    return (
        f"A validation adds at most {added * 1e6:,.0f} µs to a request, in both services together: "
        f"{median(costs[VALIDATION]) * 1e6:,.0f} µs for `{VALIDATION.name}` by itself, "
        f"and {rest * 1e6:,.0f} µs for the call, {rest / floor:.1f} x the floor's `{CALLS[0].name}`."
    )


async def login_cost(ours: Contender, rounds: int) -> float:
    """The CPU time of a login, as a multiple of that of one hash of the same cost."""
    ratios = []
    for _ in range(rounds):
        _, cpu = await ours.measure(LOGIN, 3, 1)
        started = time.process_time()
        for _ in range(3):
            bcrypt.hashpw(b"correct horse battery staple", bcrypt.gensalt(12))
        ratios.append(cpu / ((time.process_time() - started) / 3))
    return median(ratios)


async def storm(ours: Contender) -> str:
    """What other calls notice of a storm of logins."""
    url = ours.urls["users"]
    logins = asyncio.create_task(send(url, ours.request(LOGIN), count=STORM, connections=STORM))
    others = {"/health/live": request_bytes("GET", f"{url}/health/live"), "/validate-token": ours.request(VALIDATION)}
    seen = await watch(url, others, until=logins.done)
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted((await logins).statuses.items()))
    latencies = ", ".join(f"`{name}` {1000 * percentile(each.latencies, 99):.0f} ms" for name, each in seen.items())
    return f"{STORM} logins at once: {statuses}. Meanwhile p99 of {latencies}."


def restart(starter: Starter, ours: Contender) -> Iterator[str]:
    """How long a service takes from its start until it is ready, and its memory."""
    for service, size in ours.memory().items():
        again = Contender(OURS, ours.urls)
        process = ours.processes[list(ours.urls).index(service)]
        environment = process.environ()
        process.terminate()
        process.wait()
        seconds = starter.run(again, service, DATABASE_URL=environment["DATABASE_URL"])
        fresh = again.processes[0].memory_info().rss
        yield (
            f"{service}: ready {seconds:.1f} s after its start, with {fresh / 1e6:.0f} MB of memory; "
            f"{size / 1e6:.0f} MB after all of the above."
        )


def results_on(backend: str, rounds: int, count: int) -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(backend, Path(folder)) as new_database,
        starter(Path(folder), new_database) as processes,
    ):
        contenders = [processes.start(name) for name in (FLOOR, USUAL, OURS)]
        for call in CALLS:
            fields = [each.fields(call) for each in contenders]
            assert fields[0] == fields[1] == fields[2], f"{call.name}: the responses differ: {fields}"
        found = asyncio.run(measured(contenders, rounds, count))
        yield from table_of_calls(found)
        ours = contenders[-1]
        yield ""
        floor = median(cpu for _, cpu in found[CALLS[0].name, FLOOR])
        yield asyncio.run(validation_cost(ours, rounds, count, floor))
        yield f"A login takes {asyncio.run(login_cost(ours, rounds)):.2f} times the CPU time of one bcrypt hash."
        yield asyncio.run(storm(ours))
        yield from restart(processes, ours)


def main() -> None:
    options = report.parser("services", __doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--requests", type=int, default=1000, help="of each call, for each contender and round")
    args = options.parse_args()
    rounds, count = (1, 4 * CONNECTIONS) if args.short else (args.rounds, args.requests)

    def lines() -> Iterator[str]:
        numbers = f"medians of {rounds} rounds of {count} requests; {report.machine()}."
        yield f"{CONNECTIONS} connections, one worker a service, {numbers}"
        yield from report.by_database(args.database, lambda backend: results_on(backend, rounds, count))

    report.report("services", lines(), write=args.write)


if __name__ == "__main__":
    main()
