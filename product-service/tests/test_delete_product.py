"""Deleting products: DELETE /products/{id}."""

import httpx

from testkit.products import bearer, create
from testkit.user_service_stub import ADA


async def test_deleted_product_is_not_found(client: httpx.AsyncClient) -> None:
    product = await create(client)
    answer = await client.delete(f"/products/{product['id']}", headers=bearer(ADA))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get(f"/products/{product['id']}")).status_code == 404
    again = await client.delete(f"/products/{product['id']}", headers=bearer(ADA))
    assert (again.status_code, again.json()["code"]) == (404, "product-not-found")


async def test_ids_are_never_reused(client: httpx.AsyncClient) -> None:
    first = await create(client)
    await client.delete(f"/products/{first['id']}", headers=bearer(ADA))
    assert (await create(client))["id"] > first["id"]
