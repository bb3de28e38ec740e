"""Attacks both services, and measures what a bystander notices: `python3 dev.py attack`.

    python3 dev.py attack                                all attacks, on both databases: four minutes
    python3 dev.py attack sockets --database sqlite      one attack, on one database
    python3 dev.py attack --short                        the same attacks for a shorter time

Each attack has services of its own. All bounds are generous, and many are ratios within one run, so that they hold on a
busy machine as well.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from testkit.databases import NewDatabase
from testkit.few_file_handles import FILE_HANDLES, FewFileHandles
from testkit.postgresql import NoPostgreSQL
from testkit.processes import SETTINGS, UNLIMITED, Services, services_in
from tests.attack import abuse, exhaustion
from tests.attack.measuring import Result, ServiceEnded, Target
from tests.proof.prove import NAMES, SIGNALS, databases, end
from user_service.settings import Settings as UserSettings

SECONDS, SHORT = 6.0, 2.0
"""How long an attack lasts."""

_LIMITS = UNLIMITED.keys() & {name.upper() for name in UserSettings.model_fields}
_LIMITED = {name: str(UserSettings.model_fields[name.lower()].default) for name in sorted(_LIMITS)}
"""Settings with the default limits, which tests switch off."""
_PROXIED = {"TRUSTED_PROXIES": "127.0.0.1"}
"""Settings with which X-Forwarded-For tells the address of an attacker."""


@dataclass(frozen=True)
class Attack:
    sends: str
    run: Callable[[Target], Result]
    settings: Mapping[str, str] = field(default_factory=dict)
    has_few_handles: bool = False
    starts_services: bool = True


ATTACKS = {
    "imports": Attack("4 imports of 3 MB of {} lines or empty lines, closed at once", exhaustion.imports),
    "bodies": Attack(
        f"{exhaustion.CONNECTIONS} logins without the last byte, half of them of 1 MiB", exhaustion.bodies, _LIMITED
    ),
    "sockets": Attack(
        f"{exhaustion.CONNECTIONS} idle connections, with {FILE_HANDLES} file handles",
        exhaustion.sockets,
        {"HEADER_TIMEOUT": "2"},
        has_few_handles=True,
    ),
    "objects": Attack(
        f"logins of 1 MiB of small JSON objects, by {exhaustion.THREADS} clients", exhaustion.objects, _LIMITED
    ),
    "addresses": Attack(f"calls from {abuse.KEYS:,} networks, for one limit", abuse.addresses, starts_services=False),
    "guesses": Attack(
        f"guesses at one account from {abuse.ADDRESSES} addresses",
        abuse.guesses,
        {**_LIMITED, **_PROXIED, "BCRYPT_COST": "10", "PASSWORD_QUEUE_TIMEOUT": "2"},
    ),
    "networks": Attack(
        f"guesses at one account from the {abuse.NETWORKS} networks of a /56",
        abuse.networks,
        {**_LIMITED, **_PROXIED},
    ),
    "searches": Attack(f"searches for frequent words, by {abuse.READERS} clients", abuse.searches),
    "quotas": Attack(
        f"an import of {4 * abuse.QUOTA:,} SKUs with a quota of {abuse.QUOTA}, then {abuse.WRITES} writes",
        abuse.quotas,
        {"MAX_PRODUCTS_PER_ACCOUNT": str(abuse.QUOTA), "RATE_LIMIT_WRITES": "20/minute"},
    ),
}


@contextmanager
def running(attack: Attack, folder: Path, new_database: NewDatabase) -> Iterator[Services]:
    """Both services, ready for requests unless the attack needs none."""
    settings = {"LOG_LEVEL": "WARNING", **attack.settings}
    with services_in(folder, lambda: new_database(None), **settings) as services, ExitStack() as cleanup:
        if attack.has_few_handles:
            products = services.products
            inherited = {name: value for name, value in products.environment.items() if name in SETTINGS}
            limited = FewFileHandles(products.name, products.folder, **inherited)
            cleanup.callback(limited.close)
            services = replace(services, products=limited)
        if attack.starts_services:
            for service in (services.users.start(), services.products.start()):
                service.wait_ready()
        yield services


def run(name: str, folder: Path, new_database: NewDatabase, *, is_short: bool) -> bool:
    """Run one attack, and print its line; returns whether the bounds hold."""
    attack = ATTACKS[name]
    with running(attack, folder, new_database) as services:
        try:
            result = attack.run(Target(services, SHORT if is_short else SECONDS, is_short))
        except ServiceEnded as problem:
            print(f"{name:<10} BROKEN  {attack.sends}: {problem}", flush=True)
            return False
    measured = ", ".join(map(str, result.figures))
    counts = [f"{count} of {status or 'no response'}" for status, count in result.statuses.most_common()]
    responses = f"; responses: {', '.join(counts)}" if counts else ""
    print(f"{name:<10} {'holds ' if result.holds else 'BROKEN'}  {attack.sends}: {measured}{responses}", flush=True)
    return result.holds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="attack",
        description="Attack both services, and measure what a bystander notices.",
        epilog="Exit status: 0 if all bounds hold, 1 if some are broken, 2 if the run is inconclusive.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"default: all of {', '.join(ATTACKS)}")
    parser.add_argument("--short", action="store_true", help=f"attack for {SHORT:g} s instead of {SECONDS:g} s each")
    parser.add_argument("--database", choices=list(NAMES), help="default: both, one after the other")
    args = parser.parse_args()
    if unknown := set(args.names) - set(ATTACKS):
        parser.error(f"unknown: {', '.join(unknown)}; the attacks are {', '.join(ATTACKS)}")
    return args


def main() -> int:
    args = arguments()
    for number in SIGNALS:
        signal.signal(number, end)
    broken = []
    try:
        for backend in [args.database] if args.database else NAMES:
            print(f"On {NAMES[backend]}:", flush=True)
            with tempfile.TemporaryDirectory() as folder, databases(backend, Path(folder)) as new_database:
                for name in args.names or ATTACKS:
                    holds = run(name, Path(folder) / name, new_database, is_short=args.short)
                    broken += [] if holds else [f"{name} on {NAMES[backend]}"]
    except NoPostgreSQL as reason:
        print(f"attack: PostgreSQL is not available ({reason}). Install it, or use --database sqlite.", file=sys.stderr)
        return 2
    except Exception as problem:  # An aborted run must not pass for a result.
        print(f"attack: the run is inconclusive: {type(problem).__name__}: {problem}", file=sys.stderr)
        return 2
    print(f"\nBROKEN: {', '.join(broken)}." if broken else "\nAll bounds hold.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
