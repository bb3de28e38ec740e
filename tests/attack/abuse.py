"""Attacks by valid requests: too many addresses, guesses, words or products."""

import asyncio
import ipaddress
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

from chassis.database.transactions import Database
from chassis.rate_limits import IN_MEMORY, RateLimits
from product_service.demo import large_catalogue
from product_service.models import Product
from testkit.processes import Account
from tests.attack import wire
from tests.attack.measuring import LEAST_RATE, Bystander, Figure, Result, Target
from user_service.security.throttling import Throttle

KEYS = 100_000
HITS = 100
ADDRESSES = 120
NETWORKS = 256
"""The /64 networks of a /56, which many homes have."""
GUESSES_PER_NETWORK = 4
HOME = {"X-Forwarded-For": "203.0.113.5"}
DIFFERENT_PRODUCTS = 2_000
DOUBLINGS, FEWER_DOUBLINGS = 5, 3
"""Of the catalogue: 64,000 or 16,000 products."""
READERS = 12
QUOTA = 500
"""Products that an account may have in the attack on quotas."""
WRITES = 60
MANY_WORDS = "q=" + "+".join("abcdefghijklmnopqrstuvwxyz") + "&count=true"
SLOW_SEARCHES = ("q=s&count=true&sort=-price", "q=ma+ea+th+fo+re+sh+gl+se&count=true")


def addresses(target: Target) -> Result:
    """A limit must not become slower with the number of addresses that it counts.

    This attack counts in its own process: over HTTP, so many addresses would take minutes.
    """

    async def measure() -> float:
        limits = RateLimits(IN_MEMORY)
        refreshes = Throttle(limits, "refresh", per_account="30/minute", per_address="600/minute")
        networks = _networks(Random(1))
        for _ in range(KEYS):
            await refreshes.count(next(networks))
        durations = []
        for _ in range(HITS):
            started = time.perf_counter()
            await refreshes.count(next(networks))
            # What the store has left for later, it does now.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            durations.append(time.perf_counter() - started)
        await limits.close()
        return statistics.median(durations)

    return Result([Figure("one call", 1000 * asyncio.run(measure()), "ms", most=1)])


def _networks(random: Random) -> Iterator[str]:
    while True:
        yield str(ipaddress.IPv6Address((0x2001 << 112) + (random.getrandbits(48) << 64) + 1))


def guesses(target: Target) -> Result:
    """While an account is guessed from many addresses, its owner can log in from an address that it has used before."""
    service = target.services.users
    owner = target.services.sign_up()
    log_in = wire.post("/login", {"username": owner.username, "password": owner.password}, HOME)
    assert wire.status_of(service.port, log_in, within=20) == 200
    with target.attacked(service) as usage, ThreadPoolExecutor(ADDRESSES) as threads:
        attacks = [threads.submit(_guess_from, target, owner, f"198.18.{each}.1") for each in range(ADDRESSES)]
        time.sleep(0.5)
        answers = target.until_the_end(lambda: wire.status_of(service.port, log_in, within=10), pause=0.1)
        statuses = sum((each.result() for each in attacks), Counter[int | None]())
    # Hashing may take every processor, so the bystander has no bound here.
    cost = [Figure("CPU", usage.cpu, "s"), Figure("bystander", usage.rate, "% of before")]
    accepted = 100 * answers[200] / answers.total()
    return Result([*cost, Figure("the owner's logins that succeed", accepted, "%", least=60)], statuses)


def _guess_from(target: Target, owner: Account, address: str) -> Counter[int | None]:
    guess = wire.post("/login", {"username": owner.username, "password": "a guess"}, {"X-Forwarded-For": address})
    return target.until_the_end(lambda: wire.status_of(target.services.users.port, guess, within=10))


def networks(target: Target) -> Result:
    """The networks of one customer must not multiply the guesses that a limit permits."""
    service = target.services.users
    owner = target.services.sign_up()
    total = NETWORKS * GUESSES_PER_NETWORK

    def guess(number: int) -> int | None:
        address = {"X-Forwarded-For": f"2001:db8:0:{number % NETWORKS:x}::1"}
        credentials = {"username": owner.username, "password": f"guess {number}"}
        return wire.status_of(service.port, wire.post("/login", credentials, address), within=10)

    with target.attacked(service) as usage, ThreadPoolExecutor(8) as threads:
        statuses = Counter(threads.map(guess, range(total)))
    return Result(
        [*usage.figures(), Figure(f"guesses of {total} that were checked", statuses[401], most=500)], statuses
    )


def searches(target: Target) -> Result:
    """Searches for frequent words must leave time for others, and those of many words must be refused."""
    service = target.services.products
    owner = target.services.sign_up()
    _fill(target, owner, FEWER_DOUBLINGS if target.is_short else DOUBLINGS)

    def search(query: str) -> int | None:
        return wire.status_of(service.port, wire.request("GET", f"/products?{query}"), within=20)

    def attack(number: int) -> Counter[int | None]:
        return target.until_the_end(lambda: search(SLOW_SEARCHES[number % len(SLOW_SEARCHES)]), pause=1)

    with Bystander(service, target.write()) as writer:
        rate = writer.rate(target.seconds / 4)
        read = wire.request("GET", "/products?limit=20")
        with target.attacked(service, read) as usage, ThreadPoolExecutor(READERS) as threads:
            count, started = writer.count, time.monotonic()
            statuses = sum(threads.map(attack, range(READERS)), Counter[int | None]())
            writes = (writer.count - count) / (time.monotonic() - started)
    slowest = 0.0
    for query in SLOW_SEARCHES:
        started = time.monotonic()
        assert search(query) == 200
        slowest = max(slowest, time.monotonic() - started)
    assert search(MANY_WORDS) == 422
    figures = [
        Figure("protected writes", 100 * writes / rate, "% of before", least=LEAST_RATE),
        Figure("searches that find something", 100 * statuses[200] / statuses.total(), "%", least=1),
        Figure("the slowest search alone", slowest, "s", most=2),
    ]
    return Result([*usage.figures(), *figures], statuses)


def quotas(target: Target) -> Result:
    """One account must not fill the catalogue, nor claim any number of SKUs, nor write without a limit."""
    service = target.services.products
    owner = target.services.sign_up()
    lines = [f'{{"name": "Lamp", "price": "1", "quantity": 1, "sku": "CLAIM-{each}"}}\n' for each in range(4 * QUOTA)]
    imported = wire.request(
        "POST", "/products/import", "".join(lines).encode(), "application/x-ndjson", headers=owner.bearer
    )
    statuses = Counter([wire.status_of(service.port, imported, within=30)])
    create = wire.post("/products", {"name": "Lamp", "price": "1", "quantity": 1}, owner.bearer)

    def write(_: int) -> int | None:
        return wire.status_of(service.port, create, within=10)

    with ThreadPoolExecutor(4) as threads:
        written = Counter(threads.map(write, range(WRITES)))
    (stored,) = service.sql("SELECT count(*) FROM products WHERE owner_id = :id", id=owner.id)
    limited = Figure("writes that were refused by the limit", written[429], least=1)
    return Result([Figure("products of one account", stored[0], most=QUOTA), limited], statuses + written)


def _fill(target: Target, owner: Account, doublings: int) -> None:
    """Create a catalogue: writing so many products one by one would take a minute."""
    products = target.services.products

    async def fill() -> None:
        database = Database(products.database_url, lambda session: session, pool_size=2, pool_timeout=60)
        try:
            await large_catalogue.fill(database, [owner.id], DIFFERENT_PRODUCTS, lambda _: None)
        finally:
            database.close()

    asyncio.run(fill())
    copied = [each.name for each in Product.__table__.columns if each.name not in ("id", "sku") and not each.computed]
    columns = ", ".join(copied)
    for _ in range(doublings):
        products.sql(f"INSERT INTO products ({columns}) SELECT {columns} FROM products")
