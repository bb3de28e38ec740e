"""Fuzzes both services on both databases: `python3 dev.py fuzz`.

schemathesis generates requests from the OpenAPI documents that the services publish, valid and invalid ones, and runs
all of its checks on the responses. So a new operation needs no change here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from testkit.postgresql import NoPostgreSQL
from testkit.processes import Service, Services, running_services
from tests.proof.prove import NAMES, databases

ROOT = Path(__file__).parents[2]
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
MAX_EXAMPLES = 50
OTHER_ACCOUNTS = 10


@dataclass(frozen=True)
class Outcome:
    service: str
    database: str
    responses: Counter[tuple[str, int]]
    """By operation and status."""
    failed: bool
    output: str
    """Of schemathesis."""
    errors: list[str]
    """The errors in the logs of the services."""


def run(database: str, folder: Path, args: argparse.Namespace) -> list[Outcome]:
    """Fuzz each service on this database."""
    folder.mkdir()
    with (
        databases(database, folder) as new_database,
        running_services(folder, lambda: new_database(None), LOG_LEVEL="WARNING") as services,
    ):
        # The smallest ids, which are tried most often, belong to other accounts than the one of the requests. The first
        # account is the one in the examples of the documents.
        services.sign_up("ada")
        *_, last = [services.sign_up() for _ in range(OTHER_ACCOUNTS)]
        # The account of the requests can only be deleted if it is not the last admin.
        services.users.sql("UPDATE users SET is_admin = true WHERE id = :id", id=last.id)
        return [fuzz(each, services, database, folder, args) for each in (services.users, services.products)]


def fuzz(service: Service, services: Services, database: str, folder: Path, args: argparse.Namespace) -> Outcome:
    responses = folder / f"{service.name}.json"
    task = {
        "users": services.users.url,
        "users_database": services.users.database_url,
        "service": service.name,
        "responses": str(responses),
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.one_service", "--config-file", str(CONFIGURATION)),
            *("run", f"{service.url}/openapi.json", "--checks", "all", "--mode", "all", "--continue-on-failure"),
            *("--max-examples", str(args.max_examples), "--seed", str(args.seed), "--generation-database", "none"),
            *("--warnings", "off", "--request-timeout", "60", "--no-color"),
        ],
        cwd=ROOT,
        env={**os.environ, "FUZZ": json.dumps(task)},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = json.loads(responses.read_text(encoding="utf-8"))
    counted = Counter({(operation, status): number for operation, status, number in rows})
    log = services.users.log + services.products.log
    errors = [line for line in log.splitlines() if '"level": "error"' in line or not line.startswith("{")]
    failed = done.returncode != 0 or bool(errors)
    return Outcome(service.name, database, counted, failed, done.stdout + done.stderr, errors)


def print_report(outcome: Outcome) -> None:
    total = outcome.responses.total()
    by_class = Counter[int]()
    for (_, status), count in outcome.responses.items():
        by_class[status // 100] += count
    classes = ", ".join(f"{100 * by_class[each] / total:.0f} % {each}xx" for each in sorted(by_class))
    print(f"{outcome.service} on {NAMES[outcome.database]}: {total:,} requests, {classes}")
    succeeded = {operation for operation, status in outcome.responses if status // 100 == 2}
    if never := {operation for operation, _ in outcome.responses} - succeeded:
        print(f"  never a 2xx: {', '.join(sorted(never))}")
    if outcome.failed:
        print(outcome.output)
    for line in outcome.errors:
        print(line)


def arguments() -> argparse.Namespace:
    def number(text: str) -> int:
        if int(text) < 1:
            raise ValueError
        return int(text)

    parser = argparse.ArgumentParser(
        prog="fuzz",
        description="Send generated requests to both services, and check the responses against their documents.",
        epilog="Exit status: 0 without findings, 1 with findings, 2 if the run is inconclusive.",
    )
    parser.add_argument(
        "--max-examples", metavar="N", type=number, default=MAX_EXAMPLES, help="per operation and phase (%(default)s)"
    )
    parser.add_argument("--seed", metavar="S", type=int, default=1, help="decides what is generated (%(default)s)")
    parser.add_argument("--database", choices=list(NAMES), help="default: both at the same time")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    backends: Sequence[str] = [args.database] if args.database else list(NAMES)
    print(f"At most {args.max_examples:,} examples per operation and phase, seed {args.seed}.", flush=True)
    try:
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(backends)) as threads:
            running = [threads.submit(run, each, Path(folder) / each, args) for each in backends]
            outcomes = [outcome for each in running for outcome in each.result()]
    except NoPostgreSQL as reason:
        print(f"fuzz: PostgreSQL is not available ({reason}). Install it, or use --database sqlite.", file=sys.stderr)
        return 2
    for outcome in outcomes:
        print_report(outcome)
    total = sum(each.responses.total() for each in outcomes)
    good = sum(count for each in outcomes for (_, status), count in each.responses.items() if status // 100 == 2)
    findings = [each for each in outcomes if each.failed]
    print(f"\n{total:,} requests, {100 * good / total:.0f} % of them 2xx; {'FAILED' if findings else 'no findings'}.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
