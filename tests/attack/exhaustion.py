"""Attacks that use up a service's CPU, memory or file handles with few requests."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from testkit.processes import eventually
from tests.attack import wire
from tests.attack.measuring import Figure, Result, Target, cpu_until_idle

NDJSON, CSV = "application/x-ndjson", "text/csv"
IMPORT_BYTES = 3_000_000
MOST_CPU = 3.0
"""Seconds for an import that is of no use: all of it takes longer."""

CONNECTIONS = 450
THREADS = 24
MEBIBYTE = 1 << 20


def imports(target: Target) -> Result:
    """The import must stop when its client is gone, and must not process any number of lines that are refused."""
    service = target.services.products
    headers = target.services.sign_up().bearer
    objects = wire.request("POST", "/products/import", b"{}\n" * (IMPORT_BYTES // 3), NDJSON, headers)
    blanks = wire.request("POST", "/products/import", b"name\n" + b"\n" * IMPORT_BYTES, CSV, headers)
    with target.attacked(service) as usage, ThreadPoolExecutor() as threads:
        for message in (objects, blanks, objects, blanks):
            threads.submit(wire.hang_up_after, service.port, message, within=1)
        time.sleep(target.seconds)
    after = cpu_until_idle(service, MOST_CPU)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(wire.status_of, service.port, objects, within=20)
        alone = cpu_until_idle(service, MOST_CPU)
    figures = [
        Figure("CPU after that", after, "s", most=MOST_CPU),
        Figure("CPU for an import whose client waits", alone, "s", most=MOST_CPU),
    ]
    return Result([*usage.figures(mebibytes=128), *figures], Counter([answer.result()]))


def bodies(target: Target) -> Result:
    """Bodies that never end must take little memory, and leave room for other requests."""
    service = target.services.users
    large = wire.request("POST", "/login", b" " * MEBIBYTE)[:-1]
    small = wire.request("POST", "/login", b" " * 15_000)[:-1]
    with ExitStack() as cleanup:
        connections = []
        with target.attacked(service) as usage:
            deadline = time.monotonic() + target.seconds
            for number in range(CONNECTIONS):
                connection = wire.send_part(service.port, (large, small)[number % 2], within=2)
                if connection is not None:
                    cleanup.callback(connection.close)
                    connections.append(connection)
            time.sleep(max(1, deadline - time.monotonic()))
        statuses = Counter(map(wire.status_so_far, connections))
    return Result(usage.figures(mebibytes=64), statuses)


def sockets(target: Target) -> Result:
    """More idle connections than file handles must not keep others out for long, nor fill the log."""
    service = target.services.products
    within = 15.0
    with ExitStack() as cleanup, target.attacked(service) as usage:
        for _ in range(CONNECTIONS):
            cleanup.enter_context(wire.connect(service.port, within=5))
        count, started = usage.bystander.count, time.monotonic()
        with suppress(AssertionError):
            # The first ones may be requests that were in progress.
            eventually(lambda: usage.bystander.count > count + 5, within)
        seconds = time.monotonic() - started
        time.sleep(max(0, target.seconds - seconds))
    figures = [
        Figure("CPU", usage.cpu, "s"),
        Figure("memory", usage.memory, "MiB"),
        Figure("others are let in after", seconds, "s", most=within - 2),
        Figure("log", usage.log, "KiB", most=100),
    ]
    return Result(figures)


def objects(target: Target) -> Result:
    """Large JSON must be refused before it is decoded."""
    service = target.services.users
    body = b'{"username": "ada", "password": [' + b'{"a":1},' * (MEBIBYTE // 8 - 10) + b"0]}"
    message = wire.request("POST", "/login", body)
    statuses: Counter[int | None] = Counter()
    with target.attacked(service) as usage, ThreadPoolExecutor(THREADS) as threads:

        def attack(_: int) -> Counter[int | None]:
            return target.until_the_end(lambda: wire.status_of(service.port, message, within=10))

        for counted in threads.map(attack, range(THREADS)):
            statuses += counted
    return Result(usage.figures(mebibytes=128), statuses)
