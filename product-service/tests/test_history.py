"""The history of a product: GET /products/{id}/history."""

from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from testkit.products import DRAFT, bearer, create
from testkit.user_service_stub import ADA, BOB, ROOT


async def history(client: httpx.AsyncClient, token: str = ADA, query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"/products/1/history{query}", headers=bearer(token))
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()
    return entries


SNAPSHOT = {**DRAFT, "description": None, "currency": "USD", "sku": None, "category": None}


async def test_every_change_is_recorded_with_before_and_after(client: httpx.AsyncClient) -> None:
    await create(client)
    await client.put("/products/1", json={"price": "20", "sku": "A", "quantity": 3}, headers=bearer(ADA))
    await client.post("/products/1/stock", json={"delta": -1, "reason": "sold"}, headers=bearer(ROOT))
    await client.patch("/products/1", json={"currency": "JPY"}, headers=bearer(ADA))
    await client.delete("/products/1", headers=bearer(ROOT))
    recorded = [
        (entry["action"], entry["changed_by"], entry["version"], entry["reason"], entry["before"], entry["after"])
        for entry in await history(client)
    ]
    last = {**SNAPSHOT, "price": "20", "currency": "JPY", "sku": "A", "quantity": 2}
    assert recorded == [
        ("deleted", 9, 4, None, last, None),
        ("changed", 1, 4, None, {"price": "20.00", "currency": "USD"}, {"price": "20", "currency": "JPY"}),
        ("stock", 9, 3, "sold", {"quantity": 3}, {"quantity": 2}),
        ("changed", 1, 2, None, {"price": "19.99", "sku": None}, {"price": "20.00", "sku": "A"}),
        ("created", 1, 1, None, None, SNAPSHOT),
    ]


async def test_rejected_and_empty_changes_are_not_recorded(client: httpx.AsyncClient) -> None:
    await create(client)
    await create(client, sku="B")
    for method, body, token in (
        ("PUT", {"name": DRAFT["name"]}, ADA),
        ("PUT", {"sku": "B"}, ADA),
        ("PUT", {"name": "Mine"}, BOB),
        ("PUT", {"price": "1.5", "currency": "JPY"}, ADA),
        ("DELETE", None, BOB),
    ):
        await client.request(method, "/products/1", json=body, headers=bearer(token))
    await client.post("/products/1/stock", json={"delta": -9, "reason": "sold"}, headers=bearer(ADA))
    assert [entry["action"] for entry in await history(client)] == ["created"]


async def test_owner_and_admins_can_read_it_even_after_deletion(client: httpx.AsyncClient) -> None:
    async def statuses() -> list[int]:
        return [
            (await client.get("/products/1/history", headers=bearer(token))).status_code for token in (ADA, ROOT, BOB)
        ]

    assert await statuses() == [404, 404, 404]
    await create(client)
    assert await statuses() == [200, 200, 403]
    await client.delete("/products/1", headers=bearer(ADA))
    assert await statuses() == [200, 200, 403]
    assert (await client.get("/products/1/history")).status_code == 401


async def test_pages_follow_the_next_link(client: httpx.AsyncClient) -> None:
    await create(client)
    for quantity in range(10, 15):
        await client.put("/products/1", json={"quantity": quantity}, headers=bearer(ADA))
    everything = await history(client)
    assert [entry["version"] for entry in everything] == [6, 5, 4, 3, 2, 1]
    seen: list[dict[str, Any]] = []
    url = "/products/1/history?limit=4"
    while url:
        answer = await client.get(url, headers=bearer(ADA))
        seen += answer.json()
        url = answer.links["next"]["url"] if "link" in answer.headers else ""
    assert seen == everything


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "cursor=x", "cursor=%00", "skip=1"])
async def test_invalid_parameter_is_named(client: httpx.AsyncClient, query: str) -> None:
    await create(client)
    answer = await client.get(f"/products/1/history?{query}", headers=bearer(ADA))
    assert answer.status_code == 422
    assert [error["parameter"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


async def test_product_older_than_the_history_has_none(client: httpx.AsyncClient, database: Engine) -> None:
    await create(client)
    with database.begin() as connection:
        connection.execute(text("DELETE FROM changes"))
    assert await history(client) == []


@pytest.mark.alone
async def test_change_is_rolled_back_if_it_cannot_be_recorded(client: httpx.AsyncClient, database: Engine) -> None:
    product = await create(client)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE changes RENAME TO hidden"))
    answer = await client.put("/products/1", json={"name": "Desk lamp"}, headers=bearer(ADA))
    assert answer.status_code == 503
    assert (await client.get("/products/1")).json() == product
