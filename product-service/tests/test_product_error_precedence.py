"""Precedence of errors: 401, then 400, 413 and 415, then 422, 404, 403 and 409."""

import httpx
import pytest

from testkit.products import bearer, create
from testkit.user_service_stub import ADA, BOB, UserServiceStub


async def change(client: httpx.AsyncClient, product_id: int, changes: object, token: str = ADA) -> httpx.Response:
    return await client.put(f"/products/{product_id}", json=changes, headers=bearer(token))


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [(b"{", "application/json", 400), (b"x" * 200_000, "application/json", 413), (b"x", "text/plain", 415)],
)
@pytest.mark.parametrize("path", ["/products", "/products/import"])
async def test_missing_token_precedes_unreadable_body(
    client: httpx.AsyncClient, path: str, content: bytes, content_type: str, status: int
) -> None:
    headers = {"Content-Type": content_type}
    for authorization in ({}, bearer("nobody")):
        answer = await client.post(path, content=content, headers={**headers, **authorization})
        assert answer.status_code == 401
    answer = await client.post(path, content=content, headers={**headers, **bearer(ADA)})
    assert answer.status_code == (415 if path.endswith("import") else status)


@pytest.mark.alone
async def test_unavailable_user_service_precedes_unreadable_body(
    client: httpx.AsyncClient, user_service: UserServiceStub
) -> None:
    user_service.answer = lambda _: (500, b"{}")
    answer = await client.post("/products", content=b"{", headers={**bearer(ADA), "Content-Type": "text/plain"})
    assert answer.status_code == 503


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
