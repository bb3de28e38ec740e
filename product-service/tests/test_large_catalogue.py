"""The large demo catalogue: stored once, searchable, and with a history."""

import httpx
import pytest
from sqlalchemy import Engine, text

from chassis.database.transactions import Database
from product_service.demo import large_catalogue
from product_service.schemas import ProductCreate
from testkit.products import bearer
from testkit.user_service_stub import ADA


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_catalogue, "BATCH_SIZE", 40)


async def fill(url: str, count: int) -> tuple[int, list[int]]:
    progress: list[int] = []
    database = Database(url, lambda session: session, pool_size=2, pool_timeout=5)
    try:
        return await large_catalogue.fill(database, [1, 2], count, progress.append), progress
    finally:
        database.close()


@pytest.mark.usefixtures("small_batches")
async def test_missing_products_are_stored_in_batches(
    client: httpx.AsyncClient, database: Engine, database_url: str
) -> None:
    assert await fill(database_url, 100) == (100, [40, 80, 100])
    assert await fill(database_url, 100) == (0, [40, 80, 100])
    await client.delete("/products/3", headers=bearer(ADA))
    assert (await fill(database_url, 130))[0] == 31
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*), count(DISTINCT sku) FROM products")).one() == (130, 130)
        assert connection.execute(text("SELECT count(*) FROM changes WHERE action = 'created'")).scalar_one() == 131


async def test_products_can_be_searched_sorted_and_changed(client: httpx.AsyncClient, database_url: str) -> None:
    await fill(database_url, 60)
    first = (await client.get("/products/1")).json()
    assert (first["sku"], first["owner_id"], first["version"]) == ("LARGE-0000000", 1, 1)
    found = (await client.get(f"/products?q={first['name'].replace(' ', '+')}")).json()
    assert first in found
    names = [each["name"].lower() for each in (await client.get("/products?sort=name&limit=100")).json()]
    assert len(names) == 60
    answer = await client.put("/products/1", json={"quantity": 7}, headers={**bearer(ADA), "If-Match": '"1"'})
    assert answer.status_code == 200
    history = (await client.get("/products/1/history", headers=bearer(ADA))).json()
    assert [entry["action"] for entry in history] == ["changed", "created"]
    assert history[1]["after"]["name"] == first["name"]


def test_every_product_is_valid() -> None:
    rows = [large_catalogue.row(number, 1) for number in range(500)]
    assert rows == [large_catalogue.row(number, 1) for number in range(500)]
    for row in rows:
        fields = {name: row[name] for name in ProductCreate.model_fields}
        ProductCreate.model_validate({**fields, "price": str(row["price"])})
