"""Precedence of errors: 400, 413 and 415, then 401, 422, 404, 403 and 409."""

import httpx
import pytest

from testkit.products import bearer, create
from testkit.user_service_stub import ADA, BOB


async def change(client: httpx.AsyncClient, product_id: int, changes: object, token: str = ADA) -> httpx.Response:
    return await client.put(f"/products/{product_id}", json=changes, headers=bearer(token))


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [(b"{", "application/json", 400), (b"x" * 2_000_000, "application/json", 413), (b"x", "text/plain", 415)],
)
async def test_unreadable_body_precedes_missing_token(
    client: httpx.AsyncClient, content: bytes, content_type: str, status: int
) -> None:
    answer = await client.post("/products", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status


async def test_missing_token_precedes_validation(client: httpx.AsyncClient) -> None:
    assert (await client.put("/products/x?y=1", json={"name": 7})).status_code == 401


async def test_validation_precedes_unknown_product(client: httpx.AsyncClient) -> None:
    assert (await change(client, 99, {"name": 7})).status_code == 422


async def test_unknown_product_precedes_ownership(client: httpx.AsyncClient) -> None:
    assert (await change(client, 99, {"name": "Mine"}, BOB)).status_code == 404


async def test_ownership_precedes_conflict(client: httpx.AsyncClient) -> None:
    await create(client, sku="L-1")
    product = await create(client)
    assert (await change(client, product["id"], {"sku": "L-1"}, BOB)).status_code == 403
