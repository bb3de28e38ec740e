"""Idempotency keys: a repeated request gets the same response and is executed once."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from auth_client import pool
from chassis.database import purge
from product_service import main
from product_service.domain.idempotency import RETENTION
from product_service.main import create_app
from testkit.applications import running
from testkit.products import DRAFT, MakeSettings, bearer, create
from testkit.user_service_stub import ADA, BOB

STOCK = {"delta": -1, "reason": "sold"}


async def send(
    client: httpx.AsyncClient,
    key: str,
    body: object = DRAFT,
    *,
    path: str = "/products",
    token: str = ADA,
    **headers: str,
) -> httpx.Response:
    return await client.post(path, json=body, headers={**bearer(token), "Idempotency-Key": key, **headers})


def comparable(answer: httpx.Response) -> tuple[Any, ...]:
    """The parts that are equal in all responses to the same request."""
    return (answer.status_code, answer.content, answer.headers.get("location"), answer.headers["etag"])


async def product_count(client: httpx.AsyncClient) -> int:
    return len((await client.get("/products?limit=100")).json())


def age_records(database: Engine, time: timedelta) -> None:
    """Move the creation of all idempotency records back in time."""
    if database.dialect.name == "sqlite":
        older = f"strftime('%Y-%m-%d %H:%M:%f', created_at, '-{time.total_seconds()} seconds')"
    else:
        older = f"created_at - interval '{time.total_seconds()} seconds'"
    with database.begin() as connection:
        connection.execute(text(f"UPDATE idempotency_records SET created_at = {older}"))


async def test_repeated_creation_is_executed_once(client: httpx.AsyncClient) -> None:
    first = await send(client, "a-key")
    again = await send(client, "a-key")
    assert first.status_code == 201
    assert comparable(again) == comparable(first)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == "application/json"
    assert await product_count(client) == 1


async def test_response_is_replayed_after_the_product_changed_or_was_deleted(
    client: httpx.AsyncClient,
) -> None:
    first = await send(client, "a-key")
    await client.put("/products/1", json={"name": "Desk lamp"}, headers=bearer(ADA))
    assert comparable(await send(client, "a-key")) == comparable(first)
    await client.delete("/products/1", headers=bearer(ADA))
    assert comparable(await send(client, "a-key")) == comparable(first)
    assert await product_count(client) == 0


async def test_repeated_stock_adjustment_is_executed_once(client: httpx.AsyncClient) -> None:
    await create(client, quantity=3)
    first = await send(client, "a-key", STOCK, path="/products/1/stock")
    again = await send(client, "a-key", STOCK, path="/products/1/stock")
    assert (first.status_code, first.json()["quantity"]) == (200, 2)
    assert comparable(again) == comparable(first)
    assert (await client.get("/products/1")).json()["quantity"] == 2


async def test_key_is_scoped_to_caller_and_operation(client: httpx.AsyncClient) -> None:
    assert (await send(client, "a-key")).json()["id"] == 1
    assert (await send(client, "a-key", token=BOB)).json()["id"] == 2
    assert (await send(client, "another-key")).json()["id"] == 3
    assert [(await send(client, "a-key", token=token)).json()["id"] for token in (ADA, BOB)] == [1, 2]
    for product_id in (1, 3):
        answer = await send(client, "a-key", STOCK, path=f"/products/{product_id}/stock")
        assert (answer.json()["id"], answer.json()["quantity"]) == (product_id, 2)


async def test_requests_without_a_key_are_executed_every_time(client: httpx.AsyncClient) -> None:
    assert [(await create(client))["id"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("body", [{**DRAFT, "quantity": 4}, {**DRAFT, "sku": "A"}, {**DRAFT, "price": "19.98"}])
async def test_key_cannot_be_reused_for_a_different_request(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    await send(client, "a-key")
    answer = await send(client, "a-key", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert [error["parameter"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert await product_count(client) == 1


async def test_different_if_match_is_a_different_request(client: httpx.AsyncClient) -> None:
    await create(client)
    assert (await send(client, "a-key", STOCK, path="/products/1/stock", **{"If-Match": '"1"'})).status_code == 200
    assert (await send(client, "a-key", STOCK, path="/products/1/stock", **{"If-Match": '"1"'})).status_code == 200
    assert (await send(client, "a-key", STOCK, path="/products/1/stock", **{"If-Match": '"2"'})).status_code == 422


async def test_order_of_fields_does_not_matter(client: httpx.AsyncClient) -> None:
    first = await send(client, "a-key")
    assert comparable(await send(client, "a-key", dict(reversed(DRAFT.items())))) == comparable(first)


async def test_only_successful_responses_are_stored(client: httpx.AsyncClient) -> None:
    other = await create(client, sku="A")
    assert (await send(client, "a-key", {**DRAFT, "sku": "A"})).status_code == 409
    await client.delete(f"/products/{other['id']}", headers=bearer(ADA))
    assert (await send(client, "a-key", {**DRAFT, "sku": "A"})).status_code == 201
    assert (await send(client, "b-key", STOCK, path="/products/9/stock")).status_code == 404


async def test_concurrent_duplicates_create_one_product(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(send(client, "a-key") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert await product_count(client) == 1


@pytest.mark.postgresql
async def test_duplicate_of_a_slow_request_gets_409(
    make_settings: MakeSettings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 5)
    async with running(create_app(make_settings(database_pool_timeout=0.5))) as client:
        with database.connect() as duplicate:
            duplicate.execute(
                text(
                    "INSERT INTO idempotency_records (caller_id, key, operation, fingerprint, created_at, body) "
                    "VALUES (1, 'a-key', 'create', 'x', now(), '')"
                )
            )
            answer = await send(client, "a-key")
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-in-progress")
            assert int(answer.headers["retry-after"]) >= 1
            duplicate.rollback()
        assert (await send(client, "a-key")).status_code == 201


async def test_expired_key_can_be_used_again(client: httpx.AsyncClient, database: Engine) -> None:
    await send(client, "a-key")
    age_records(database, RETENTION - timedelta(minutes=1))
    assert (await send(client, "a-key")).json()["id"] == 1
    age_records(database, timedelta(minutes=2))
    assert (await send(client, "a-key")).json()["id"] == 2
    assert (await send(client, "a-key")).json()["id"] == 2


async def test_expired_records_are_purged(
    make_settings: MakeSettings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "PURGE_INTERVAL", 0.05)
    monkeypatch.setattr(purge, "BATCH", 2)
    async with running(create_app(make_settings())) as client:
        for number in range(5):
            await send(client, f"key-{number}")
        age_records(database, RETENTION)
        await send(client, "new-key")

        def stored_keys() -> list[str]:
            with database.connect() as connection:
                return list(connection.execute(text("SELECT key FROM idempotency_records")).scalars())

        async with asyncio.timeout(10):
            while len(stored_keys()) > 1:  # noqa: ASYNC110 - the database has no event to wait for
                await asyncio.sleep(0.02)
        assert stored_keys() == ["new-key"]


async def test_product_ids_with_leading_zeros_are_rejected(client: httpx.AsyncClient) -> None:
    await create(client)
    for spelling in ("01", "0" * 300 + "1"):
        answer = await send(client, "a-key", STOCK, path=f"/products/{spelling}/stock")
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "product_id")


async def test_more_than_one_key_is_rejected(client: httpx.AsyncClient) -> None:
    lines = [("Idempotency-Key", "one"), ("Idempotency-Key", "another"), *bearer(ADA).items()]
    answer = await client.post("/products", json=DRAFT, headers=lines)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"parameter": "Idempotency-Key", "detail": "Send only one key"}]


@pytest.mark.parametrize("key", ["", "with a space", "x" * 256, "\u00e9"])
async def test_malformed_key_is_rejected(client: httpx.AsyncClient, key: str) -> None:
    headers = [("Authorization", f"Bearer {ADA}"), ("Idempotency-Key", key)]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = await client.post("/products", json=DRAFT, headers=encoded)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["parameter"] == "Idempotency-Key"
    assert "[!-~]" not in error["detail"]


async def test_key_is_released_if_the_request_fails(app: FastAPI, client: httpx.AsyncClient, database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE changes RENAME TO hidden"))
    assert (await send(client, "a-key")).status_code == 503
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM idempotency_records")).scalar_one() == 0
        connection.execute(text("ALTER TABLE hidden RENAME TO changes"))
    assert (await send(client, "a-key")).status_code == 201
    assert await product_count(client) == 1
