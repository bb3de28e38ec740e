"""Measures what traces cost: both services without spans, and with spans that a collector receives.

    python3 dev.py bench tracing                      on both databases: two minutes
    python3 dev.py bench tracing --database sqlite    on one database
    python3 dev.py bench tracing --short              proves only that it works

The three run at the same time, each with a database of its own. CPU is that of both services, with the threads that
export, and without the collector.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench import report
from bench.contenders import CALLS, OURS, starter
from bench.services import CONNECTIONS, measured
from testkit.traces import receiving
from tests.proof.prove import databases

OFF, TENTH, ALL = "no spans", "spans of a tenth of the requests", "spans of all requests"


def results_on(backend: str, rounds: int, count: int) -> Iterator[str]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        new_database = stack.enter_context(databases(backend, folder))
        collector = stack.enter_context(receiving())
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "traceidratio"}
        contenders = []
        for name, environment in ((OFF, {}), (TENTH, {**on, "OTEL_TRACES_SAMPLER_ARG": "0.1"}), (ALL, on)):
            (folder / name).mkdir()
            processes = stack.enter_context(starter(folder / name, new_database, environment))
            contenders.append(replace(processes.start(OURS), name=name))
        found = asyncio.run(measured(contenders, rounds, count))
    yield "| call | " + " | ".join(f"{each.name}: CPU µs" for each in contenders) + " |"
    yield "|---|" + "---:|" * len(contenders)
    for call in CALLS:
        costs = [median(cpu for _, cpu in found[call.name, each.name]) for each in contenders]
        yield f"| `{call.name}` | " + " | ".join(f"{cost * 1e6:,.0f}" for cost in costs) + " |"


def main() -> None:
    options = report.parser("tracing", __doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--requests", type=int, default=1000, help="of each call, for each round")
    args = options.parse_args()
    rounds, count = (1, 4 * CONNECTIONS) if args.short else (args.rounds, args.requests)

    def lines() -> Iterator[str]:
        yield f"{CONNECTIONS} connections, medians of {rounds} rounds of {count} requests; {report.machine()}."
        yield from report.by_database(args.database, lambda backend: results_on(backend, rounds, count))

    report.report("tracing", lines(), write=args.write)


if __name__ == "__main__":
    main()
