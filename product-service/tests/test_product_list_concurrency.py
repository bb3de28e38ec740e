"""Paging through the whole list while other transactions insert, delete and change products."""

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

from product_service.domain.search_text import fold
from testkit.products import product, store

PERMANENT = 1_200
TO_DELETE = 150
TO_MOVE = 150
PAGE = 30

WRITE_TIMEOUT = 10  # seconds to wait for a concurrent write before the test fails


def random_price(chance: random.Random) -> Decimal:
    # Few distinct values, so that most pages begin and end within ties.
    return Decimal(chance.randint(1, 300)) / 10


def random_name(chance: random.Random) -> str:
    return chance.choice(["lamp", "Lamp", "Lämp", "desk", "Zebra"]) + chance.choice(["", " 1", " 2"])


class Writer:
    """Writes all over the list, one transaction after another, until stopped."""

    def __init__(self, database: Engine, to_delete: list[int], to_move: list[int], others: list[int]) -> None:
        self.writes = 0
        self._database = database
        self._to_delete = to_delete
        self._to_move = to_move
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
        """Wait until at least one transaction has started and finished."""
        after, deadline = self.writes + 2, time.monotonic() + WRITE_TIMEOUT
        while self.writes < after:
            assert time.monotonic() < deadline, "the writer has stopped"
            time.sleep(0.001)

    def _write(self) -> None:
        chance = self._chance
        store(self._database, (product(name=random_name(chance), price=random_price(chance)) for _ in range(5)))
        with self._database.connect() as connection:
            if self._to_delete:
                connection.execute(text("DELETE FROM products WHERE id = :id"), {"id": self._to_delete.pop()})
            moved = {
                "id": chance.choice(self._to_move),
                "price": chance.randint(1, 300) * 1_000,
                "name_key": fold(random_name(chance)),
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
async def test_every_permanent_product_is_listed_exactly_once(
    client: httpx.AsyncClient, database: Engine, sort: str
) -> None:
    chance = random.Random(11)
    total = PERMANENT + TO_DELETE + TO_MOVE
    stored = store(database, (product(name=random_name(chance), price=random_price(chance)) for _ in range(total)))
    chance.shuffle(stored)
    permanent, to_delete = stored[:PERMANENT], stored[PERMANENT:-TO_MOVE]
    to_move = set(stored[-TO_MOVE:])
    writer = Writer(database, to_delete, list(to_move), permanent)

    answer = await client.get(f"/products?sort={sort}&limit={PAGE}")
    seen = Counter(each["id"] for each in answer.json())
    with running(writer):
        while "next" in answer.links:
            await asyncio.to_thread(writer.wait_for_more)
            answer = await client.get(answer.links["next"]["url"])
            seen.update(each["id"] for each in answer.json())
    # A product whose price or name changes may be listed at both positions, or at neither.
    assert [each for each, times in seen.items() if times > 1 and each not in to_move] == []
    assert set(permanent) - set(seen) == set()
    assert writer.writes >= 80
    assert len(seen) > total - TO_DELETE - TO_MOVE
