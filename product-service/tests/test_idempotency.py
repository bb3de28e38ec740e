"""Requests that are sent again: the same key gets the same answer, and the work is done once."""

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
from product_service.domain.idempotency import KEPT_FOR
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


def told(answer: httpx.Response) -> tuple[Any, ...]:
    """What two answers to the same request have in common."""
    return (answer.status_code, answer.json(), answer.headers.get("location"), answer.headers["etag"])


async def how_many(client: httpx.AsyncClient) -> int:
    return len((await client.get("/products?limit=100")).json())


def let_pass(database: Engine, time: timedelta) -> None:
    """Let what is kept be older by this time."""
    if database.dialect.name == "sqlite":
        older = f"strftime('%Y-%m-%d %H:%M:%f', created_at, '-{time.total_seconds()} seconds')"
    else:
        older = f"created_at - interval '{time.total_seconds()} seconds'"
    with database.begin() as connection:
        connection.execute(text(f"UPDATE idempotency_records SET created_at = {older}"))


async def test_a_creation_that_is_sent_again_is_answered_again_and_made_once(client: httpx.AsyncClient) -> None:
    first = await send(client, "a-key")
    again = await send(client, "a-key")
    assert first.status_code == 201
    assert told(again) == told(first)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == "application/json"
    assert await how_many(client) == 1


async def test_the_answer_is_the_first_one_even_after_the_product_was_changed_or_deleted(
    client: httpx.AsyncClient,
) -> None:
    first = await send(client, "a-key")
    await client.put("/products/1", json={"name": "Desk lamp"}, headers=bearer(ADA))
    assert told(await send(client, "a-key")) == told(first)
    await client.delete("/products/1", headers=bearer(ADA))
    assert told(await send(client, "a-key")) == told(first)
    assert await how_many(client) == 0


async def test_a_change_of_the_stock_is_made_once(client: httpx.AsyncClient) -> None:
    await create(client, quantity=3)
    first = await send(client, "a-key", STOCK, path="/products/1/stock")
    again = await send(client, "a-key", STOCK, path="/products/1/stock")
    assert (first.status_code, first.json()["quantity"]) == (200, 2)
    assert told(again) == told(first)
    assert (await client.get("/products/1")).json()["quantity"] == 2


async def test_a_key_belongs_to_its_caller_and_its_address(client: httpx.AsyncClient) -> None:
    assert (await send(client, "a-key")).json()["id"] == 1
    assert (await send(client, "a-key", token=BOB)).json()["id"] == 2
    assert (await send(client, "another-key")).json()["id"] == 3
    assert [(await send(client, "a-key", token=token)).json()["id"] for token in (ADA, BOB)] == [1, 2]
    for product_id in (1, 3):
        answer = await send(client, "a-key", STOCK, path=f"/products/{product_id}/stock")
        assert (answer.json()["id"], answer.json()["quantity"]) == (product_id, 2)


async def test_without_a_key_each_request_is_another_one(client: httpx.AsyncClient) -> None:
    assert [(await create(client))["id"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("body", [{**DRAFT, "quantity": 4}, {**DRAFT, "sku": "A"}, {**DRAFT, "price": "19.98"}])
async def test_another_request_with_the_same_key_is_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    await send(client, "a-key")
    answer = await send(client, "a-key", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert [error["parameter"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert await how_many(client) == 1


async def test_another_condition_is_another_request(client: httpx.AsyncClient) -> None:
    await create(client)
    assert (await send(client, "a-key", STOCK, path="/products/1/stock", **{"If-Match": '"1"'})).status_code == 200
    assert (await send(client, "a-key", STOCK, path="/products/1/stock", **{"If-Match": '"1"'})).status_code == 200
    assert (await send(client, "a-key", STOCK, path="/products/1/stock", **{"If-Match": '"2"'})).status_code == 422


async def test_the_same_fields_in_another_order_are_the_same_request(client: httpx.AsyncClient) -> None:
    first = await send(client, "a-key")
    assert told(await send(client, "a-key", dict(reversed(DRAFT.items())))) == told(first)


async def test_only_a_success_is_kept(client: httpx.AsyncClient) -> None:
    other = await create(client, sku="A")
    assert (await send(client, "a-key", {**DRAFT, "sku": "A"})).status_code == 409
    await client.delete(f"/products/{other['id']}", headers=bearer(ADA))
    assert (await send(client, "a-key", {**DRAFT, "sku": "A"})).status_code == 201
    assert (await send(client, "b-key", STOCK, path="/products/9/stock")).status_code == 404


async def test_of_ten_twins_at_once_one_creates_and_all_hear_of_it(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(send(client, "a-key") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert await how_many(client) == 1


@pytest.mark.postgresql
async def test_a_twin_that_is_not_done_in_time_is_told_to_come_back(
    make_settings: MakeSettings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 5)
    async with running(create_app(make_settings(database_pool_timeout=0.5))) as client:
        with database.connect() as twin:
            twin.execute(
                text(
                    "INSERT INTO idempotency_records (caller_id, key, operation, fingerprint, created_at, body) "
                    "VALUES (1, 'a-key', 'create', 'x', now(), '')"
                )
            )
            answer = await send(client, "a-key")
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-in-progress")
            assert int(answer.headers["retry-after"]) >= 1
            twin.rollback()
        assert (await send(client, "a-key")).status_code == 201


async def test_a_key_that_is_kept_no_longer_is_a_new_one(client: httpx.AsyncClient, database: Engine) -> None:
    await send(client, "a-key")
    let_pass(database, KEPT_FOR - timedelta(minutes=1))
    assert (await send(client, "a-key")).json()["id"] == 1
    let_pass(database, timedelta(minutes=2))
    assert (await send(client, "a-key")).json()["id"] == 2
    assert (await send(client, "a-key")).json()["id"] == 2


async def test_what_is_kept_no_longer_is_removed_by_the_service_itself(
    make_settings: MakeSettings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "PURGE_EVERY", 0.05)
    monkeypatch.setattr(purge, "BATCH", 2)
    async with running(create_app(make_settings())) as client:
        for number in range(5):
            await send(client, f"key-{number}")
        let_pass(database, KEPT_FOR)
        await send(client, "a-new-one")

        def kept() -> list[str]:
            with database.connect() as connection:
                return list(connection.execute(text("SELECT key FROM idempotency_records")).scalars())

        async with asyncio.timeout(10):
            while len(kept()) > 1:  # noqa: ASYNC110 - it is the database that changes, and nothing tells of it.
                await asyncio.sleep(0.02)
        assert kept() == ["a-new-one"]


async def test_a_product_has_one_address_whose_keys_are_kept(client: httpx.AsyncClient) -> None:
    await create(client)
    for spelling in ("01", "0" * 300 + "1"):
        answer = await send(client, "a-key", STOCK, path=f"/products/{spelling}/stock")
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "product_id")


async def test_two_keys_are_none(client: httpx.AsyncClient) -> None:
    lines = [("Idempotency-Key", "one"), ("Idempotency-Key", "another"), *bearer(ADA).items()]
    answer = await client.post("/products", json=DRAFT, headers=lines)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"parameter": "Idempotency-Key", "detail": "There is more than one key"}]


@pytest.mark.parametrize("key", ["", "with a space", "x" * 256, "\u00e9"])
async def test_what_is_no_key_is_invalid(client: httpx.AsyncClient, key: str) -> None:
    headers = [("Authorization", f"Bearer {ADA}"), ("Idempotency-Key", key)]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = await client.post("/products", json=DRAFT, headers=encoded)
    assert answer.status_code == 422
    assert [error["parameter"] for error in answer.json()["errors"]] == ["Idempotency-Key"]


async def test_the_work_and_its_answer_are_kept_together_or_not_at_all(
    app: FastAPI, client: httpx.AsyncClient, database: Engine
) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE changes RENAME TO away"))
    assert (await send(client, "a-key")).status_code == 503
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM idempotency_records")).scalar_one() == 0
        connection.execute(text("ALTER TABLE away RENAME TO changes"))
    assert (await send(client, "a-key")).status_code == 201
    assert await how_many(client) == 1
