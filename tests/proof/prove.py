"""Does a revocation take effect at once, everywhere and for ever? Asks both services, as real processes, and a checker.

    python3 dev.py prove                                         about two minutes; 0 where no counterexample is found
    python3 dev.py prove --operations 2000 --database sqlite     fewer operations, on one database
    python3 dev.py prove --break cache                           a cache of a second, which has to be found: 1

On each database several actors make random requests to accounts that they share: they log in, call what is protected,
and take sessions away from each other in every way there is. Every request is written down with its start, its end and
its status, and `histories` says which of them could not have been answered so. Meanwhile some clients do nothing but
wait between two protected calls, for as long as connections between the services are kept, and a little less or more.

The seed decides what each actor tries. It does not decide who of them comes first, so that two runs are never the same.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from threading import Event
from types import FrameType
from typing import NoReturn

from testkit.databases import POSTGRESQL, SQLITE, Databases, NewDatabase
from testkit.postgresql import NoPostgreSQL, Server
from testkit.processes import SETTINGS, Service, Services, services_in
from tests.proof.histories import REVOCATIONS, Fault, Verdict, check
from tests.proof.workload import Population, act, idle

OPERATIONS = 10_000
PAUSES = ((80,), (76, 4), (74, 6), (60,), (31, 29))
"""Seconds. The ones of a row follow each other at a product service of their own.

The product service lets go of a connection to the user service that has rested for 30 s, the user service for 75 s.
"""
MOST_SHOWN = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAMES = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}


class CachingService(Service):
    """The product service that keeps what it was told for a second; see caching_product_service.py."""

    @property
    def module(self) -> str:
        return "tests.proof.caching_product_service"


@dataclass(frozen=True)
class Outcome:
    """What came of the run on one database."""

    verdict: Verdict
    seconds: float


@contextmanager
def databases(backend: str, folder: Path) -> Iterator[NewDatabase]:
    """What makes empty databases, which are gone at the end, on the server of TEST_POSTGRES_URL or one of our own."""
    with ExitStack() as cleanup:
        if backend == POSTGRESQL and not os.environ.get("TEST_POSTGRES_URL"):
            server = Server()
            cleanup.callback(server.stop)
            os.environ["TEST_POSTGRES_URL"] = server.url
            cleanup.callback(os.environ.pop, "TEST_POSTGRES_URL")
        yield cleanup.enter_context(Databases(backend, folder).made())


@contextmanager
def running(folder: Path, new_database: NewDatabase, *, cached: bool) -> Iterator[Services]:
    """Both services, ready to answer."""
    with services_in(folder, lambda: new_database(None), LOG_LEVEL="WARNING") as services, ExitStack() as cleanup:
        if cached:
            settings = {name: value for name, value in services.products.environment.items() if name in SETTINGS}
            broken = CachingService("product-service", services.products.folder, **settings)
            broken.environment["PYTHONPATH"] = os.pathsep.join(sys.path)
            cleanup.callback(broken.close)
            services = replace(services, products=broken)
        for service in (services.users.start(), services.products.start()):
            service.wait_ready()
        yield services


def run(backend: str, folder: Path, args: argparse.Namespace, stop: Event) -> Outcome:
    """Let all clients loose on both services, and look at what they have heard.

    :param stop: ends it before its time; set here too when something goes wrong, so that the other run ends with this
    """
    pauses = () if args.broken else PAUSES  # What is broken on purpose need not be waited for.
    folder.mkdir()
    with ExitStack() as cleanup:
        try:
            new_database = cleanup.enter_context(databases(backend, folder))
            services = cleanup.enter_context(running(folder, new_database, cached=args.broken == "cache"))
            population = Population(services)
            threads = cleanup.enter_context(ThreadPoolExecutor(len(PAUSES)))
            resting = []
            for row in pauses:
                settings = {"DATABASE_URL": new_database(None), "USER_SERVICE_URL": services.users.url}
                service = Service("product-service", folder / f"resting-{row[0]}", LOG_LEVEL="WARNING", **settings)
                cleanup.callback(service.close)
                resting.append(threads.submit(idle, population, service.start(), row, stop))
            started = time.monotonic()
            act(population, args.operations, args.seed, stop)
            seconds = time.monotonic() - started
            for each in resting:
                each.result()
            return Outcome(check(population.history), seconds)
        except BaseException:
            stop.set()
            raise


# The command


def print_report(name: str, outcome: Outcome) -> None:
    verdict = outcome.verdict
    operations, refused = sum(verdict.operations.values()), sum(verdict.refused.values())
    print(f"\n{name}: {operations:,} operations in {outcome.seconds:.0f} s, {verdict.protected:,} of them protected")
    print(f"{'had to be let in, and were':<36}{verdict.let_in:>10,}")
    print(f"{'had to be refused, and were':<36}{refused:>10,}")
    print(f"{'at the same time as a revocation':<36}{verdict.either_way:>10,}")
    print(f"{'spurious 503':<36}{verdict.count(Fault.UNEXPECTED, HTTPStatus.SERVICE_UNAVAILABLE):>10,}")
    print(f"{'counterexamples':<36}{len(verdict.counterexamples):>10,}")
    print(f"{'revocation':<24}{'succeeded':>12}{'refused after it':>20}")
    for kind in REVOCATIONS:
        print(f"{kind:<24}{verdict.revocations[kind]:>12,}{verdict.refused[kind]:>20,}")
    for counterexample in verdict.counterexamples[:MOST_SHOWN]:
        print(f"\n{counterexample}")
    if len(verdict.counterexamples) > MOST_SHOWN:
        print(f"\n... and {len(verdict.counterexamples) - MOST_SHOWN:,} more.")


def arguments() -> argparse.Namespace:
    def number(text: str) -> int:
        if int(text) < 1:
            raise ValueError
        return int(text)

    parser = argparse.ArgumentParser(
        prog="prove",
        description="Show that after a revocation no protected request succeeds that starts later.",
        epilog="Ends with 0 if no counterexample was found, with 1 if there is one, with 2 if nothing was proven.",
    )
    parser.add_argument("--operations", type=number, default=OPERATIONS, help="requests on each database (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what the actors try (%(default)s)")
    parser.add_argument("--database", choices=list(NAMES), help="only this one; both, at the same time, if left out")
    parser.add_argument(
        "--break",
        dest="broken",
        choices=["cache"],
        help="put a cache of one second into the product service, which has to be found",
    )
    return parser.parse_args()


def end(number: int, _: FrameType | None) -> NoReturn:
    # An exception, so that the services are ended on the way out. A second one would leave some of them behind.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    args = arguments()
    for number in SIGNALS:
        signal.signal(number, end)
    backends = [args.database] if args.database else list(NAMES)
    print(
        f"{args.operations:,} operations on {' and on '.join(NAMES[each] for each in backends)}, seed {args.seed}; "
        "who comes first is not the seed's to decide.",
        flush=True,
    )
    stop = Event()
    try:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(backends)) as threads:
            try:
                running = {each: threads.submit(run, each, Path(folder) / each, args, stop) for each in backends}
                outcomes = {each: running[each].result() for each in backends}
            finally:
                stop.set()
    except NoPostgreSQL as reason:
        print(f"prove: no PostgreSQL is to be had ({reason}): install one, or say --database sqlite.", file=sys.stderr)
        return 2
    except Exception as problem:  # Whatever it was: a run that broke off must not pass for a proof.
        print(f"prove: nothing was proven: {type(problem).__name__}: {problem}", file=sys.stderr)
        return 2
    for backend, outcome in outcomes.items():
        print_report(NAMES[backend], outcome)
    verdicts = [each.verdict for each in outcomes.values()]
    found = sum(len(each.counterexamples) for each in verdicts)
    unseen = {kind for each in verdicts for kind in REVOCATIONS if not each.refused[kind]}
    if found:
        print(f"\n{'The break was found' if args.broken else 'NOT SO'}: {found:,} counterexamples.")
        return 1
    if unseen:
        print(f"\nToo few operations: no request came after some of the kinds of revocation: {', '.join(unseen)}.")
        return 2
    print("\nThe break was NOT found." if args.broken else "\nNo counterexample: what was revoked was over at once.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
