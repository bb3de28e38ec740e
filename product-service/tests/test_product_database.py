"""Database connections and locks, and properties that both databases must share."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from product_service.main import create_app
from product_service.repositories.products import ProductRepository
from testkit.applications import running
from testkit.products import DRAFT, MakeSettings, bearer
from testkit.user_service_stub import ADA, UserServiceStub, answer_as_the_contract_says

OPEN_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""


@pytest.mark.alone
async def test_no_connection_is_held_while_waiting_for_the_user_service(
    app: FastAPI, client: httpx.AsyncClient, database: Engine, user_service: UserServiceStub
) -> None:
    called, respond = threading.Event(), threading.Event()

    def hang(token: str) -> tuple[int, bytes]:
        called.set()
        respond.wait(60)
        return answer_as_the_contract_says(token)

    product = (await client.post("/products", json=DRAFT, headers=bearer(ADA))).json()
    path = f"/products/{product['id']}"
    assert (await client.get(path)).json() == product
    user_service.answer = hang
    requests = [
        asyncio.create_task(client.request(method, where, json=body, headers=bearer(ADA)))
        for method, where, body in (("POST", "/products", DRAFT), ("PUT", path, {"name": "Desk lamp"}))
    ]
    assert await asyncio.to_thread(called.wait, 10)
    services = app.state.services
    engines = (services.database._read_engine, services.database._write_engine)
    assert [engine.pool.checkedout() for engine in engines] == [0, 0]
    if database.dialect.name == "postgresql":
        with database.connect() as connection:
            assert connection.execute(text(OPEN_TRANSACTIONS)).scalar_one() == 0
    # Reads do not wait for the user service.
    assert (await client.get(path)).json() == product
    assert not any(request.done() for request in requests)
    respond.set()
    assert [answer.status_code for answer in await asyncio.gather(*requests)] == [201, 200]


@contextmanager
def row_locked_by_another_transaction(database: Engine) -> Iterator[None]:
    with database.connect() as other:
        if database.dialect.name == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        other.execute(text("UPDATE products SET quantity = quantity + 1"))
        yield
        other.rollback()


async def test_locked_row_is_a_503_after_the_timeout(make_settings: MakeSettings, database: Engine) -> None:
    async with running(create_app(make_settings(database_pool_timeout=0.3))) as client:
        product = (await client.post("/products", json=DRAFT, headers=bearer(ADA))).json()
        path = f"/products/{product['id']}"
        with row_locked_by_another_transaction(database):
            started = time.monotonic()
            answer = await client.put(path, json={"name": "Desk lamp"}, headers=bearer(ADA))
            assert time.monotonic() - started < 4  # The default is 5.
            assert (answer.status_code, answer.json()["code"]) == (503, "database-busy")
            assert int(answer.headers["retry-after"]) >= 1
            assert (await client.get(path)).json() == product
        assert (await client.put(path, json={"name": "Desk lamp"}, headers=bearer(ADA))).status_code == 200


SLOW = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}


async def test_slow_statement_is_a_503_after_the_timeout(
    make_settings: MakeSettings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(repository: ProductRepository, *_: object) -> int:
        repository._session.execute(text(SLOW[database.dialect.name]))
        return 0

    monkeypatch.setattr(ProductRepository, "count", count)
    # With one connection for reads, a statement that continued would block the others.
    settings = make_settings(database_timeout=1, database_pool_timeout=1, database_pool_size=2)
    async with running(create_app(settings)) as client:
        assert (await client.get("/products")).status_code == 200
        answer = await client.get("/products?count=true")
        assert (answer.status_code, answer.json()["code"]) == (503, "database-busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await client.get("/products")).status_code == 200


async def test_similar_skus_are_distinct(client: httpx.AsyncClient) -> None:
    alike = ["L", "l", "ä", "a", "Ä", "ß", "ss", "\ufb01", "fi"]
    for sku in alike:
        answer = await client.post("/products", json={**DRAFT, "sku": sku}, headers=bearer(ADA))
        assert (answer.status_code, answer.json()["sku"]) == (201, sku)
        taken = await client.post("/products", json={**DRAFT, "sku": sku}, headers=bearer(ADA))
        assert (taken.status_code, taken.json()["code"]) == (409, "sku-taken")


@pytest.mark.postgresql
@pytest.mark.alone
async def test_times_are_utc_in_any_server_time_zone(make_settings: MakeSettings, database: Engine) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE \"{database.url.database}\" SET timezone = 'Asia/Tokyo'")
    async with running(create_app(make_settings())) as client:
        product = (await client.post("/products", json=DRAFT, headers=bearer(ADA))).json()
        assert (await client.get(f"/products/{product['id']}")).json() == product
    assert product["created_at"].endswith("Z")
    assert abs(datetime.fromisoformat(product["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
