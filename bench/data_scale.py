"""Measures what each call costs with 10,000, 100,000 and 1,000,000 products and sessions.

    python3 dev.py bench data-scale                        both databases: eight minutes, mostly to fill them
    python3 dev.py bench data-scale --largest 100000       without the largest
    python3 dev.py bench data-scale --database sqlite      one database
    python3 dev.py bench data-scale --short                proves only that it works
    python3 dev.py bench data-scale --write                writes bench/RESULTS-data-scale.md as well

Each size has services and databases of its own, which run at the same time. A round sends each call to each of them, in
random order, so other load on the machine affects all alike. What a call reads should not grow with the tables; the
exceptions have a table of their own.
"""

import itertools
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import httpx
from sqlalchemy import NullPool, create_engine

from bench import report
from bench.contenders import DRAFT
from bench.usage import cpu_of
from chassis.database.url import normalise
from testkit.databases import NewDatabase
from testkit.many_rows import ORDERS, SELECTIVE_FILTERS, fill_products, fill_sessions, middle
from testkit.processes import Account, Services, running_services
from tests.proof.prove import databases

SIZES = (10_000, 100_000, 1_000_000)
SHORT = (10_000, 20_000)
REQUESTS = 3
"""Of each call to each size in a round."""
MOST_GROWTH = 2.0


@dataclass
class Site:
    """The services with databases of one size, and a caller with an account."""

    services: Services
    account: Account
    clients: Mapping[str, httpx.Client]
    cursors: Mapping[str, str]
    """The positions in the middle of the catalogue."""
    refresh_token: str = ""
    products: list[int] = field(default_factory=list)
    """The ids of the caller's products."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def send(self, service: str, method: str, path: str, **options: Any) -> httpx.Response:
        return self.clients[service].request(method, path, **options).raise_for_status()

    @property
    def credentials(self) -> dict[str, str]:
        return {"username": self.account.username, "password": self.account.password}


@dataclass(frozen=True)
class Call:
    name: str
    send: Callable[[Site], object]


def listing(parameters: str) -> Call:
    path = f"/products?{quote(parameters, safe='=&')}"
    return Call(f"GET /products?{parameters}", lambda site: site.send("products", "GET", path))


def following(sort: str) -> Call:
    return Call(
        f"GET /products?sort={sort}, in the middle",
        lambda site: site.send("products", "GET", f"/products?cursor={site.cursors[sort]}"),
    )


def create(site: Site) -> None:
    site.send("products", "POST", "/products", json=DRAFT)


def create_with_a_key(site: Site) -> None:
    headers = {"Idempotency-Key": f"key-{next(site.numbers)}"}
    site.send("products", "POST", "/products", json=DRAFT, headers=headers)


def import_products(site: Site, count: int = 1) -> None:
    lines = "\n".join(json.dumps({**DRAFT, "name": f"Lamp {next(site.numbers)}"}) for _ in range(count))
    headers = {"Content-Type": "application/x-ndjson"}
    site.send("products", "POST", "/products/import", content=lines, headers=headers)


def change(site: Site) -> None:
    site.send("products", "PUT", f"/products/{site.products[0]}", json={"name": f"Brass lamp {next(site.numbers)}"})


def adjust_stock(site: Site) -> None:
    site.send("products", "POST", f"/products/{site.products[0]}/stock", json={"delta": 1, "reason": "found"})


def delete(site: Site) -> None:
    site.send("products", "DELETE", f"/products/{site.products.pop()}")


def validate(site: Site) -> None:
    site.send("users", "POST", "/validate-token", json={"token": site.account.token})


def log_in(site: Site) -> None:
    answer = site.send("users", "POST", "/login", json=site.credentials)
    site.refresh_token = answer.json()["refresh_token"]


def come_and_go(site: Site) -> None:
    credentials = {**site.credentials, "username": f"ada-{next(site.numbers)}"}
    site.send("users", "POST", "/register", json=credentials)
    token = site.send("users", "POST", "/login", json=credentials).json()["access_token"]
    proof = {"current_password": site.account.password}
    site.send("users", "POST", "/me/delete", json=proof, headers={"Authorization": f"Bearer {token}"})


def refresh(site: Site) -> None:
    answer = site.send("users", "POST", "/refresh", json={"refresh_token": site.refresh_token})
    site.refresh_token = answer.json()["refresh_token"]


FREQUENT_WORD = "q=y70v bra"
"""It selects little, but has a word that selects much."""
SORTS = [sign + order for order in ORDERS for sign in ("", "-")]
CALLS = (
    Call("GET /products/{id}", lambda site: site.send("products", "GET", f"/products/{site.products[0]}")),
    Call(
        "GET /products/{id}/history", lambda site: site.send("products", "GET", f"/products/{site.products[1]}/history")
    ),
    *(listing(f"sort={sort}") for sort in SORTS),
    *map(following, SORTS),
    *(listing(f"sort={sort}&skip=10000") for sort in ("id", "-price")),
    *(
        listing(f"{filters}&sort={sort}")
        for filters in SELECTIVE_FILTERS
        if filters != FREQUENT_WORD
        for sort in ("id", "-price")
    ),
    listing("q=z7w&sort=-price"),
    *(listing(f"updated_since=2026-01-01T00:30:00Z&sort={sort}") for sort in ("updated_at", "-updated_at")),
    Call("POST /products", create),
    Call("POST /products, with a key", create_with_a_key),
    Call("POST /products/import, of a line", import_products),
    Call("PUT /products/{id}", change),
    Call("POST /products/{id}/stock", adjust_stock),
    Call("DELETE /products/{id}", delete),
    Call("POST /validate-token", validate),
    Call("POST /login", log_in),
    Call("POST /register, /login and /me/delete", come_and_go),
    Call("POST /refresh", refresh),
    Call("GET /sessions", lambda site: site.send("users", "GET", "/sessions")),
    Call("GET /me", lambda site: site.send("users", "GET", "/me")),
)
GROWING = tuple(
    map(
        listing,
        (
            "count=true",
            "in_stock=true&sort=-price",
            "max_price=50&sort=-updated_at",
            f"{FREQUENT_WORD}&sort=-price",
            "q=brass",
            "q=brass&sort=-price",
            "q=brass&count=true",
            "q=product",
            "q=product&sort=-price",
        ),
    )
)
"""These read more in a larger table: brass is a word of every tenth product."""


@dataclass
class Cost:
    """Seconds that one call takes at one size."""

    latencies: list[float] = field(default_factory=list)
    cpu: float = 0.0
    """Of the service processes, for all requests."""


Costs = Mapping[tuple[str, int], Cost]
"""By the name of the call, and the size."""


def measure(sites: Mapping[int, Site], calls: Sequence[Call], rounds: int) -> Costs:
    """A first round, which is not measured, warms up."""
    costs: defaultdict[tuple[str, int], Cost] = defaultdict(Cost)
    for number in range(rounds + 1):
        pairs = [(call, size) for call in calls for size in sites]
        random.shuffle(pairs)
        for call, size in pairs:
            cost, before = costs[call.name, size] if number else Cost(), cpu_of(sites[size].services)
            for _ in range(REQUESTS):
                started = time.perf_counter()
                call.send(sites[size])
                cost.latencies.append(time.perf_counter() - started)
            cost.cpu += cpu_of(sites[size].services) - before
    return costs


def table(costs: Costs, calls: Sequence[Call]) -> Iterator[str]:
    """The median latencies of each call, its CPU time at the largest size, and the ratios of the sizes."""
    sizes = sorted({size for _, size in costs})
    yield f"| call | {' | '.join(f'{size:,}' for size in sizes)} | ratio | CPU | CPU ratio |"
    yield f"|---|{'---:|' * (len(sizes) + 3)}"
    for call in calls:
        of_call = [costs[call.name, size] for size in sizes]
        medians = [1000 * median(each.latencies) for each in of_call]
        first, *_, last = (1000 * each.cpu / len(each.latencies) for each in of_call)
        growth = medians[-1] / medians[0]
        ratio = f"**{growth:.1f}**" if growth > MOST_GROWTH else f"{growth:.1f}"
        cpu_ratio = f"{last / first:.1f}" if first else "-"
        cells = [f"`{call.name}`", *(f"{each:.1f}" for each in medians), ratio, f"{last:.1f}", cpu_ratio]
        yield f"| {' | '.join(cells)} |"


@contextmanager
def site(folder: Path, new_database: NewDatabase, size: int, to_delete: int) -> Iterator[Site]:
    """The services with so many products and sessions, ready for requests."""
    settings = {"MAX_PRODUCTS_PER_ACCOUNT": str(SIZES[-1])}
    with ExitStack() as cleanup:
        services = cleanup.enter_context(running_services(folder, lambda: new_database(None), **settings))
        account = services.sign_up()
        engines = [
            create_engine(normalise(each.database_url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
            for each in (services.users, services.products)
        ]
        fill_sessions(engines[0], size)
        fill_products(engines[1], size)
        cursors = {sort: middle(engines[1], sort)["cursor"] for sort in SORTS}
        clients = {
            "users": cleanup.enter_context(services.users.client(headers=account.bearer)),
            "products": cleanup.enter_context(services.products.client(headers=account.bearer)),
        }
        made = Site(services, account, clients, cursors)
        log_in(made)
        import_products(made, to_delete)
        ids = services.products.sql("SELECT id FROM products WHERE owner_id = :id ORDER BY id", id=account.id)
        made.products = [row[0] for row in ids]
        yield made


def results_on(backend: str, sizes: Sequence[int], rounds: int) -> Iterator[str]:
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        new_database = cleanup.enter_context(databases(backend, folder))
        to_delete = REQUESTS * (rounds + 1)
        sites = {size: cleanup.enter_context(site(folder / str(size), new_database, size, to_delete)) for size in sizes}
        yield from table(measure(sites, CALLS, rounds), CALLS)
        yield from ("", "These read more in a larger table:", "")
        yield from table(measure(sites, GROWING, max(1, rounds // 5)), GROWING)


def main() -> None:
    options = report.parser("data-scale", __doc__)
    options.add_argument("--rounds", type=int, default=20, help=f"of {REQUESTS} requests of each call to each size")
    options.add_argument("--largest", type=int, choices=SIZES[1:], default=SIZES[-1])
    args = options.parse_args()
    sizes = SHORT if args.short else [size for size in SIZES if size <= args.largest]
    rounds = 1 if args.short else args.rounds

    def lines() -> Iterator[str]:
        yield (
            f"Medians in ms of {rounds * REQUESTS} requests with so many products and sessions, one at a time. The "
            f"CPU is that of the service processes per request at the largest size, in ms. Each ratio is that of the "
            f"largest size to the smallest; those above {MOST_GROWTH:g} are bold. {report.machine()}."
        )
        yield from report.by_database(args.database, lambda backend: results_on(backend, sizes, rounds))

    report.report("data-scale", lines(), write=args.write)


if __name__ == "__main__":
    main()
