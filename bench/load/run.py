"""Sends the mix of requests of mix.json with Locust or k6: `python3 dev.py load`.

    python3 dev.py load --with k6 --seconds 60 --users 20        to both services, which it starts
    python3 dev.py load --with locust --user-service https://users.example --product-service https://products.example

The exit status is 1 if a response was unexpected, and 2 if the run could not start. docs/load-tests.md explains the
options and the figures.
"""

import argparse
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from bench.load_scale import running
from testkit.databases import POSTGRESQL
from testkit.postgresql import NoPostgreSQL
from tests.proof.prove import NAMES, SIGNALS, databases, end

PASSWORD = "correct horse battery staple"
PREFIX = "load-test-"
FOLDER = Path(__file__).parent
LOCUST, K6 = "locust", "k6"


class CannotStartError(Exception):
    """The message is one line that says what is wrong."""


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
            f"{math.ceil(seconds)}s",  # Whole seconds; with 0, it would never end.
            "--stop-timeout",
            "10",
            "--exit-code-on-error",
            "1",
            "--loglevel",
            "WARNING",
        ),
    ]


def prepare(users: str, products: str, accounts: int, password: str) -> None:
    """Register the accounts that do not exist, and wait when registrations are limited.

    They are registered in order, so a login as the last one shows that all exist. Raises CannotStartError if a service
    does not respond as it should, or an account has another password.
    """
    credentials = [{"username": f"{PREFIX}{number}", "password": password} for number in range(accounts)]
    with httpx.Client(timeout=20) as client:
        page = _send(client, "GET", f"{products}/products?limit=1")
        if page.status_code != HTTPStatus.OK or not isinstance(_content(page), list):
            raise CannotStartError(_described(page))
        if _logs_in(client, users, credentials[-1]):
            return
        for body in credentials:
            answer = _send(client, "POST", f"{users}/register", body)
            if answer.status_code not in (HTTPStatus.CREATED, HTTPStatus.CONFLICT):
                raise CannotStartError(f"the account {body['username']} can't be registered: {_described(answer)}")
            is_new = answer.status_code == HTTPStatus.CREATED and body is not credentials[-1]
            if not is_new and not _logs_in(client, users, body):
                raise CannotStartError(f"{body['username']} can't log in: set its password with --password")


def _logs_in(client: httpx.Client, users: str, credentials: dict[str, str]) -> bool:
    """Whether the user service accepts these credentials."""
    answer = _send(client, "POST", f"{users}/login", credentials)
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        return False
    content = _content(answer)
    if answer.status_code != HTTPStatus.OK or not isinstance(content, dict) or "access_token" not in content:
        raise CannotStartError(_described(answer))
    return True


def _send(client: httpx.Client, method: str, url: str, body: dict[str, str] | None = None) -> httpx.Response:
    """Send a request, and wait as long as a limit wants."""
    while (answer := client.request(method, url, json=body)).status_code == HTTPStatus.TOO_MANY_REQUESTS:
        wait = answer.headers.get("Retry-After", "")
        if not wait.isdecimal():
            raise CannotStartError(f"{_described(answer)}, without the seconds to wait in Retry-After")
        print(f"load: {method} {url} is limited; waiting {wait} s", file=sys.stderr, flush=True)
        time.sleep(int(wait))
    return answer


def _content(answer: httpx.Response) -> Any:
    """The JSON of a response; None if it has none."""
    try:
        return answer.json()
    except ValueError:
        return None


def _described(answer: httpx.Response) -> str:
    """One line about an unexpected response, without a page of HTML."""
    content = _content(answer)
    detail = f" ({content['detail']!s:.200})" if isinstance(content, dict) and "detail" in content else ""
    kind = answer.headers.get("Content-Type", "no content type")
    return f"unexpected response to {answer.request.method} {answer.url}: {answer.status_code}, {kind}{detail}"


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
    def positive(text: str) -> float:
        if not 0 < float(text) < math.inf:
            raise ValueError
        return float(text)

    def at_least_one(text: str) -> int:
        if int(text) < 1:
            raise ValueError
        return int(text)

    parser = argparse.ArgumentParser(
        prog="dev.py load",
        description="Send a realistic mix of requests with Locust or k6.",
        epilog="Exit status: 0 if all responses were expected, 1 if some were not, 2 if the run could not start.",
    )
    parser.add_argument("--with", dest="tool", choices=[LOCUST, K6], default=K6, help="default: %(default)s")
    parser.add_argument("--seconds", type=positive, default=30, help="how long (%(default)s)")
    parser.add_argument("--users", type=at_least_one, default=10, help="clients at a time (%(default)s)")
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
        if not shutil.which(args.tool, path=args.programs):
            other = LOCUST if args.tool == K6 else K6
            raise CannotStartError(f"{args.tool} is not installed (k6 is there for Linux only): use --with {other}")
        with services(args) as (users, products):
            prepare(users, products, args.users, args.password)
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
    except httpx.RequestError as problem:
        print(f"load: {problem.request.url} does not respond: {problem}", file=sys.stderr)
        return 2
    except Exception as problem:  # A run that was not started must not pass for a result.
        name = "" if isinstance(problem, CannotStartError) else f"{type(problem).__name__}: "
        print(f"load: {name}{problem}", file=sys.stderr)
        return 2
    print("All responses were expected." if status == 0 else f"FAILED: {args.tool} ended with {status}.", flush=True)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
