"""A walk through the whole list by its links, while others insert, delete and change products."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import httpx
import pytest
from sqlalchemy import Engine, text

from product_service.domain.search_text import folded
from testkit.products import product, store

THROUGHOUT = 4_000
TO_BE_DELETED = 500
TO_BE_MOVED = 500

OTHERS = 10  # seconds that the walk waits for a write before the test fails


def some_price(chance: random.Random) -> Decimal:
    # Few different ones, so that most pages begin and end among equals.
    return Decimal(chance.randint(1, 300)) / 10


def some_name(chance: random.Random) -> str:
    return chance.choice(["lamp", "Lamp", "Lämp", "desk", "Zebra"]) + chance.choice(["", " 1", " 2"])


class Writer:
    """Writes at all places of the list, a transaction after the other, until it is told to stop."""

    def __init__(self, database: Engine, to_be_deleted: list[int], to_be_moved: list[int], others: list[int]) -> None:
        self.writes = 0
        self._database = database
        self._to_be_deleted = to_be_deleted
        self._to_be_moved = to_be_moved
        self._others = others
        self._chance = random.Random(7)
        self._stop = threading.Event()

    def run(self) -> None:
        while not self._stop.is_set():
            self._write()
            self.writes += 1

    def stop(self) -> None:
        self._stop.set()

    def wait_for_more(self) -> None:
        """Until a transaction has begun and ended since now."""
        after, deadline = self.writes + 2, time.monotonic() + OTHERS
        while self.writes < after:
            assert time.monotonic() < deadline, "nobody writes"
            time.sleep(0.001)

    def _write(self) -> None:
        chance = self._chance
        store(self._database, (product(name=some_name(chance), price=some_price(chance)) for _ in range(5)))
        with self._database.connect() as connection:
            if self._to_be_deleted:
                connection.execute(text("DELETE FROM products WHERE id = :id"), {"id": self._to_be_deleted.pop()})
            moved = {
                "id": chance.choice(self._to_be_moved),
                "price": chance.randint(1, 300) * 1_000,
                "name_key": folded(some_name(chance)),
            }
            connection.execute(text("UPDATE products SET price = :price, name_key = :name_key WHERE id = :id"), moved)
            changed = {"id": chance.choice(self._others)}
            connection.execute(text("UPDATE products SET quantity = quantity + 1 WHERE id = :id"), changed)
            connection.commit()


@contextmanager
def running(writer: Writer) -> Iterator[None]:
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield
    finally:
        writer.stop()
        thread.join()


@pytest.mark.parametrize("sort", ["price", "-name"])
async def test_of_5000_products_none_comes_twice_and_none_is_lost_that_was_there_throughout(
    client: httpx.AsyncClient, database: Engine, sort: str
) -> None:
    chance = random.Random(11)
    total = THROUGHOUT + TO_BE_DELETED + TO_BE_MOVED
    stored = store(database, (product(name=some_name(chance), price=some_price(chance)) for _ in range(total)))
    chance.shuffle(stored)
    throughout, to_be_deleted = stored[:THROUGHOUT], stored[THROUGHOUT:-TO_BE_MOVED]
    to_be_moved = set(stored[-TO_BE_MOVED:])
    writer = Writer(database, to_be_deleted, list(to_be_moved), throughout)

    answer = await client.get(f"/products?sort={sort}&limit=100")
    seen = Counter(each["id"] for each in answer.json())
    with running(writer):
        while "next" in answer.links:
            await asyncio.to_thread(writer.wait_for_more)
            answer = await client.get(answer.links["next"]["url"])
            seen.update(each["id"] for each in answer.json())
    # What is moved, to another price or name, may be met at both places, or at neither.
    assert [each for each, times in seen.items() if times > 1 and each not in to_be_moved] == []
    assert set(throughout) - set(seen) == set()
    assert writer.writes >= 80
    assert len(seen) > total - TO_BE_DELETED - TO_BE_MOVED
