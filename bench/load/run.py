"""Sends the mix of requests of mix.json with Locust or k6: `python3 dev.py load`.

    python3 dev.py load --with k6 --seconds 60 --users 20        to both services, which it starts
    python3 dev.py load --with locust --user-service https://users.example --product-service https://products.example

The exit status is 1 if a response was unexpected. docs/load-tests.md explains the options and the figures.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx

from bench.load_scale import running
from testkit.databases import POSTGRESQL
from testkit.postgresql import NoPostgreSQL
from tests.proof.prove import NAMES, SIGNALS, databases, end

PASSWORD = "correct horse battery staple"
PREFIX = "load-test-"
FOLDER = Path(__file__).parent
LOCUST, K6 = "locust", "k6"


def command(tool: str, programs: Path, users: int, seconds: float) -> list[str]:
    """The command line of a tool; the script gets the rest from the environment."""
    if tool == K6:
        options = ["--quiet", "--no-usage-report", "--vus", str(users), "--duration", f"{seconds}s"]
        return [str(programs / "k6"), "run", *options, str(FOLDER / "k6.js")]
    options = ["--headless", "--only-summary", "--users", str(users), "--spawn-rate", str(users)]
    return [
        *(str(programs / "locust"), "--locustfile", str(FOLDER / "locustfile.py"), *options),
        *(
            "--run-time",
            f"{seconds:.0f}s",
            "--stop-timeout",
            "10",
            "--exit-code-on-error",
            "1",
            "--loglevel",
            "WARNING",
        ),
    ]


def prepare(url: str, accounts: int, password: str) -> None:
    """Register the accounts, as slowly as the limit of registrations wants; those that exist are left alone.

    They are registered in order, so a login as the last one shows that all exist. Raises SystemExit.
    """
    with httpx.Client(base_url=url, timeout=20) as client:
        last = {"username": f"{PREFIX}{accounts - 1}", "password": password}
        if client.post("/login", json=last).status_code == HTTPStatus.OK:
            return
        for number in range(accounts):
            body = {"username": f"{PREFIX}{number}", "password": password}
            while (answer := client.post("/register", json=body)).status_code == HTTPStatus.TOO_MANY_REQUESTS:
                time.sleep(float(answer.headers["Retry-After"]))
            if answer.status_code not in (HTTPStatus.CREATED, HTTPStatus.CONFLICT):
                raise SystemExit(f"load: the account {body['username']} can't be registered: {answer.text}")


@contextmanager
def services(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The addresses of both services: the given ones, or those of services with a hundred products."""
    if args.user_service:
        yield args.user_service.rstrip("/"), args.product_service.rstrip("/")
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(args.database, Path(folder)) as new_database,
        # Passwords are hashed faster than in production, so that logins don't take all of the CPU.
        running(Path(folder) / "services", new_database, BCRYPT_COST="8") as site,
    ):
        yield site.services.users.url, site.services.products.url


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev.py load",
        description="Send a realistic mix of requests with Locust or k6.",
        epilog="Exit status: 0 if all responses were expected, 1 if some were not, 2 if the run is inconclusive.",
    )
    parser.add_argument("--with", dest="tool", choices=[LOCUST, K6], default=K6, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=30, help="how long (%(default)s)")
    parser.add_argument("--users", type=int, default=10, help="clients at a time (%(default)s)")
    parser.add_argument("--user-service", metavar="URL", help="the user service; by default one that is started")
    parser.add_argument("--product-service", metavar="URL", help="the product service, likewise")
    parser.add_argument(
        "--password", default=PASSWORD, help="of the accounts, which are registered if they don't exist"
    )
    parser.add_argument("--database", choices=list(NAMES), default=POSTGRESQL, help="of services that are started")
    parser.add_argument("--programs", metavar="DIR", type=Path, required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if bool(args.user_service) != bool(args.product_service):
        parser.error("name both services, or neither")
    return args


def main() -> int:
    args = arguments()
    for number in SIGNALS:
        signal.signal(number, end)
    try:
        with services(args) as (users, products):
            prepare(users, args.users, args.password)
            settings = {
                "LOAD_USER_SERVICE": users,
                "LOAD_PRODUCT_SERVICE": products,
                "LOAD_ACCOUNTS": str(args.users),
                "LOAD_ACCOUNT_PREFIX": PREFIX,
                "LOAD_PASSWORD": args.password,
            }
            words = command(args.tool, args.programs, args.users, args.seconds)
            status = subprocess.run(words, env={**os.environ, **settings}, check=False).returncode
    except NoPostgreSQL as reason:
        print(f"load: PostgreSQL is not available ({reason}). Install it, or use --database sqlite.", file=sys.stderr)
        return 2
    except httpx.TransportError as problem:
        print(f"load: the user service does not respond: {problem}", file=sys.stderr)
        return 2
    print("All responses were expected." if status == 0 else f"FAILED: {args.tool} ended with {status}.", flush=True)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
