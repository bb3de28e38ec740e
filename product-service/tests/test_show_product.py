"""Showing a product: GET /products/{id}."""

import httpx
import pytest

from testkit.products import bearer
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


async def test_reads_need_no_token_and_no_user_service(
    client: httpx.AsyncClient, user_service: UserServiceStub
) -> None:
    user_service.stop()
    assert (await client.get("/products")).status_code == 200
    assert (await client.get("/products/1")).status_code == 404
    assert user_service.requests == []
