"""Searches for a request that succeeds after its session was revoked, with both services as real processes.

    python3 dev.py prove                                         two minutes; exits with 0 without a counterexample
    python3 dev.py prove --operations 2000 --database sqlite     fewer operations, on one database
    python3 dev.py prove --break cache                           with a cache of a second, which must be found: 1
    python3 dev.py prove --replicated --operations 2000          replicas, and a database whose primary is killed
    python3 dev.py prove --break replica-read                    with validations by a replica, which must be found: 1

On each database, several actors send random requests about accounts that they share: they log in, make protected calls,
and revoke each other's sessions in nine ways. Every request is recorded with its start, its end and its status, and
`histories` finds those with an impossible response. Meanwhile, other clients only wait between two
protected calls, about as long as idle connections between the services are kept.

With `--replicated`, the services are replicas behind HAProxy, with one Valkey and a replicated PostgreSQL. Halfway, its
primary is killed. Requests may get a 503, or no response, from then on until shortly after another one has taken over.

The seed decides what each actor tries. It does not decide which request comes first, so no two runs are the same.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Event
from types import FrameType
from typing import NoReturn

from testkit.databases import POSTGRESQL, SQLITE, Databases, NewDatabase
from testkit.postgresql import NoPostgreSQL, Server
from testkit.processes import BrokenService, Service, Services, services_in
from testkit.replicated_postgresql import MissingPrograms
from tests.proof.histories import REVOCATIONS, Fault, Verdict, check
from tests.proof.replicated import Failover, arrangement, fail_over
from tests.proof.workload import Population, act, idle

OPERATIONS = 10_000
PAUSES = ((80,), (76, 4), (74, 6), (60,), (31, 29))
"""In seconds. Each row is a sequence of pauses, with a product service of its own.

The product service closes a connection to the user service that was idle for 30 s, the user service after 75 s.
"""
MOST_SHOWN = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAMES = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}
REPLICATED = "a replicated PostgreSQL"
CACHE, REPLICA_READ = "cache", "replica-read"


class CachingService(BrokenService):
    """The product service that caches validations for a second; see caching_product_service.py."""

    @property
    def module(self) -> str:
        return "tests.proof.caching_product_service"


@dataclass(frozen=True)
class Outcome:
    """The result of the run on one database."""

    verdict: Verdict
    seconds: float
    failover: str = ""
    """What happened to the primary, in words."""


@contextmanager
def databases(backend: str, folder: Path) -> Iterator[NewDatabase]:
    """Makes temporary databases, on the server of TEST_POSTGRES_URL or on a temporary one."""
    with ExitStack() as cleanup:
        if backend == POSTGRESQL and not os.environ.get("TEST_POSTGRES_URL"):
            server = Server()
            cleanup.callback(server.stop)
            os.environ["TEST_POSTGRES_URL"] = server.url
            cleanup.callback(os.environ.pop, "TEST_POSTGRES_URL")
        yield cleanup.enter_context(Databases(backend, folder).made())


@contextmanager
def running(folder: Path, new_database: NewDatabase, *, cached: bool) -> Iterator[Services]:
    """Both services, ready for requests."""
    kind = CachingService if cached else Service
    with services_in(folder, lambda: new_database(None), kind, LOG_LEVEL="WARNING") as services:
        for service in (services.users.start(), services.products.start()):
            service.wait_ready()
        yield services


def run(backend: str, folder: Path, args: argparse.Namespace, stop: Event) -> Outcome:
    """Run all clients against both services, and check the history.

    :param stop: stops the run early; also set here after an error, so that the other run stops too
    """
    pauses = () if args.broken else PAUSES  # A broken service is detected without them.
    folder.mkdir()
    with ExitStack() as cleanup:
        try:
            new_database = cleanup.enter_context(databases(backend, folder))
            services = cleanup.enter_context(running(folder, new_database, cached=args.broken == CACHE))
            population = Population(services)
            threads = cleanup.enter_context(ThreadPoolExecutor(len(PAUSES)))
            idling = []
            for row in pauses:
                settings = {"DATABASE_URL": new_database(None), "USER_SERVICE_URL": services.users.url}
                service = Service("product-service", folder / f"idle-{row[0]}", LOG_LEVEL="WARNING", **settings)
                cleanup.callback(service.close)
                idling.append(threads.submit(idle, population, service.start(), row, stop))
            started = time.monotonic()
            act(population, args.operations, args.seed, stop)
            seconds = time.monotonic() - started
            for each in idling:
                each.result()
            return Outcome(check(population.history), seconds)
        except BaseException:
            stop.set()
            raise


def run_replicated(folder: Path, args: argparse.Namespace, stop: Event) -> Outcome:
    """Run all clients against replicas of both services, with a failover in the middle, and check the history."""
    folder.mkdir()
    is_broken = args.broken == REPLICA_READ
    with ExitStack() as cleanup:
        try:
            whole = cleanup.enter_context(arrangement(folder, reading_replica=is_broken))
            population = Population(whole.services)
            threads = cleanup.enter_context(ThreadPoolExecutor(1))
            failing: Future[Failover] | None = None
            if not is_broken:  # Its fault is detected without a failover.
                failing = threads.submit(fail_over, whole.database, population, args.operations // 2, stop)
            started = time.monotonic()
            act(population, args.operations, args.seed, stop)
            seconds = time.monotonic() - started
            if failing is None:
                return Outcome(check(population.history), seconds)
            failover = failing.result()
            verdict = check(population.history, [failover.outage])
            return Outcome(verdict, seconds, failover.described(population.history))
        except BaseException:
            stop.set()
            raise


# The command


def print_report(name: str, outcome: Outcome) -> None:
    verdict = outcome.verdict
    operations, rejected = sum(verdict.operations.values()), sum(verdict.rejected.values())
    print(f"\n{name}: {operations:,} operations in {outcome.seconds:.0f} s, {verdict.protected:,} of them protected")
    print(f"{'had to be accepted, and were':<36}{verdict.accepted:>10,}")
    print(f"{'had to be rejected, and were':<36}{rejected:>10,}")
    print(f"{'overlapped with a revocation':<36}{verdict.either_way:>10,}")
    if outcome.failover:
        print(f"{'503 or no response in the failover':<36}{verdict.unavailable:>10,}")
    print(f"{'unexplained 503':<36}{verdict.count(Fault.UNEXPECTED, HTTPStatus.SERVICE_UNAVAILABLE):>10,}")
    print(f"{'counterexamples':<36}{len(verdict.counterexamples):>10,}")
    print(f"{'revocation':<24}{'succeeded':>12}{'rejected after it':>20}")
    for kind in REVOCATIONS:
        print(f"{kind:<24}{verdict.revocations[kind]:>12,}{verdict.rejected[kind]:>20,}")
    if outcome.failover:
        print(outcome.failover)
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
        description="Search for protected requests that succeed although they start after a revocation.",
        epilog="Exit status: 0 without counterexamples, 1 with counterexamples, 2 if the run is inconclusive.",
    )
    parser.add_argument("--operations", type=number, default=OPERATIONS, help="requests on each database (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides what the actors try (%(default)s)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--database", choices=list(NAMES), help="default: both at the same time")
    where.add_argument(
        "--replicated",
        action="store_true",
        help="run two replicas of each service behind HAProxy, a Valkey, and a PostgreSQL whose primary is killed",
    )
    parser.add_argument(
        "--break",
        dest="broken",
        choices=[CACHE, REPLICA_READ],
        help="add a cache of one second to the product service, or let the user service validate tokens by a replica "
        "that lags behind, without a failover, which the run must detect",
    )
    args = parser.parse_args()
    if {CACHE: args.replicated, REPLICA_READ: args.database}.get(args.broken):
        parser.error(f"--break {args.broken} does not go with {'--database' if args.database else '--replicated'}")
    args.replicated = args.replicated or args.broken == REPLICA_READ
    return args


def end(number: int, _: FrameType | None) -> NoReturn:
    # An exception, so that the services are stopped on the way out. A second signal would leave some of them running.
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    args = arguments()
    for number in SIGNALS:
        signal.signal(number, end)
    runs: dict[str, Callable[[Path, argparse.Namespace, Event], Outcome]] = {
        NAMES[each]: partial(run, each) for each in ([args.database] if args.database else NAMES)
    }
    if args.replicated:
        runs = {REPLICATED: run_replicated}
    print(
        f"{args.operations:,} operations on {' and on '.join(runs)}, seed {args.seed}; "
        "the seed does not decide which request comes first.",
        flush=True,
    )
    stop = Event()
    try:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(runs)) as threads:
            try:
                running = {name: threads.submit(each, Path(folder) / name, args, stop) for name, each in runs.items()}
                outcomes = {name: each.result() for name, each in running.items()}
            finally:
                stop.set()
    except MissingPrograms as reason:
        print(f"prove: {reason}.", file=sys.stderr)
        return 2
    except NoPostgreSQL as reason:
        print(f"prove: PostgreSQL is not available ({reason}). Install it, or use --database sqlite.", file=sys.stderr)
        return 2
    except Exception as problem:  # An aborted run must not pass for a proof.
        print(f"prove: the run is inconclusive: {type(problem).__name__}: {problem}", file=sys.stderr)
        return 2
    for name, outcome in outcomes.items():
        print_report(name[0].upper() + name[1:], outcome)
    verdicts = [each.verdict for each in outcomes.values()]
    found = sum(len(each.counterexamples) for each in verdicts)
    accepted = sum(each.count(Fault.ACCEPTED) for each in verdicts)
    unseen = {kind for each in verdicts for kind in REVOCATIONS if not each.rejected[kind]}
    if found:
        print(f"\n{'The fault was found' if args.broken and accepted else 'FAILED'}: {found:,} counterexamples.")
        return 1
    if unseen:
        print(f"\nToo few operations: no request started after these kinds of revocation: {', '.join(unseen)}.")
        return 2
    print("\nThe fault was NOT found." if args.broken else "\nNo counterexample: every revocation took effect at once.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
