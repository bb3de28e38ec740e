"""Showing a product: GET /products/{id}."""

from datetime import timedelta

import httpx
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from product_service.models import ProductChange
from testkit.products import NEW_YEAR, bearer, product, store
from testkit.user_service_stub import ADA, UserServiceStub


@pytest.mark.parametrize("product_id", [1, 2**63 - 1])
async def test_unknown_product_is_not_found(client: httpx.AsyncClient, product_id: int) -> None:
    answer = await client.get(f"/products/{product_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "product-not-found")


@pytest.mark.parametrize("product_id", ["0", "-1", "x", "1.0", "1_0", str(2**63), "9" * 100, "%00", "1%0A", "٣"])
async def test_invalid_id_is_rejected(client: httpx.AsyncClient, product_id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await client.request(method, f"/products/{product_id}", headers=bearer(ADA))
        assert answer.status_code == 422
        assert [error["parameter"] for error in answer.json()["errors"]] == ["product_id"]


async def test_times_have_microseconds_even_if_these_are_zero(client: httpx.AsyncClient, database: Engine) -> None:
    store(database, [product(updated_at=NEW_YEAR + timedelta(microseconds=120))])
    shown = (await client.get("/products/1")).json()
    assert shown["created_at"] == "2026-01-01T00:00:00.000000Z"
    assert shown["updated_at"] == "2026-01-01T00:00:00.000120Z"
    assert (await client.get("/products")).json() == [shown]
    with Session(database) as session:
        entry = {"action": "changed", "changed_by": 1, "changed_at": NEW_YEAR, "before": {}, "after": {}}
        session.add(ProductChange(product_id=1, owner_id=1, version=1, **entry))
        session.commit()
    [change] = (await client.get("/products/1/history", headers=bearer(ADA))).json()
    assert change["changed_at"] == "2026-01-01T00:00:00.000000Z"


@pytest.mark.alone
async def test_reads_need_no_token_and_no_user_service(
    client: httpx.AsyncClient, user_service: UserServiceStub
) -> None:
    user_service.stop()
    assert (await client.get("/products")).status_code == 200
    assert (await client.get("/products/1")).status_code == 404
    assert user_service.requests == []
