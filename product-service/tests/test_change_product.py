"""Changing products: PUT and PATCH /products/{id}."""

import asyncio
from typing import Any

import httpx
import pytest

from testkit.products import bearer, create
from testkit.user_service_stub import ADA

MERGE_PATCH = "application/merge-patch+json"


async def change(client: httpx.AsyncClient, product_id: int, changes: object, token: str = ADA) -> httpx.Response:
    return await client.put(f"/products/{product_id}", json=changes, headers=bearer(token))


async def test_sent_fields_are_set_and_the_others_kept(client: httpx.AsyncClient) -> None:
    before = await create(client, sku="L-1", category="light", description="bright")
    answer = await change(client, before["id"], {"price": "5", "quantity": 0})
    assert answer.status_code == 200
    after = answer.json()
    assert after["updated_at"] > before["updated_at"]
    assert after == {
        **before,
        "price": "5.00",
        "quantity": 0,
        "version": before["version"] + 1,
        "updated_at": after["updated_at"],
    }
    assert (await client.get(f"/products/{before['id']}")).json() == after


@pytest.mark.parametrize("field", ["description", "sku", "category"])
async def test_null_clears_nullable_fields(client: httpx.AsyncClient, field: str) -> None:
    product = await create(client, **{field: "something"})
    answer = await change(client, product["id"], {field: None})
    assert (answer.status_code, answer.json()[field]) == (200, None)


@pytest.mark.parametrize("field", ["name", "price", "currency", "quantity"])
async def test_null_is_invalid_for_other_fields(client: httpx.AsyncClient, field: str) -> None:
    product = await create(client)
    answer = await change(client, product["id"], {field: None})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]


async def test_empty_change_does_nothing(client: httpx.AsyncClient) -> None:
    product = await create(client)
    assert (await change(client, product["id"], {})).json() == product
    assert (await change(client, product["id"], {"price": 19.99})).json() == product


async def test_price_and_currency_are_validated_together(client: httpx.AsyncClient) -> None:
    product = await create(client, price="19.99")
    refused = await change(client, product["id"], {"currency": "JPY"})
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/price"]
    accepted = await change(client, product["id"], {"currency": "JPY", "price": 2000})
    assert (accepted.json()["price"], accepted.json()["currency"]) == ("2000", "JPY")


async def test_sku_of_another_product_is_rejected(client: httpx.AsyncClient) -> None:
    await create(client, sku="L-1")
    product = await create(client, sku="L-2")
    answer = await change(client, product["id"], {"sku": "L-1", "name": "Other"})
    assert (answer.status_code, answer.json()["code"]) == (409, "sku-taken")
    assert (await client.get(f"/products/{product['id']}")).json() == product


async def test_concurrent_changes_are_all_applied(client: httpx.AsyncClient) -> None:
    product = await create(client)
    fields: list[dict[str, Any]] = [{"name": "Desk lamp"}, {"price": "7"}, {"quantity": 9}, {"category": "light"}]
    await asyncio.gather(*(change(client, product["id"], field) for field in fields))
    after = (await client.get(f"/products/{product['id']}")).json()
    expected = {"name": "Desk lamp", "price": "7.00", "quantity": 9, "category": "light"}
    assert {name: after[name] for name in expected} == expected
    assert after["version"] == product["version"] + 4


@pytest.mark.parametrize("media_type", [MERGE_PATCH, "application/json", f"{MERGE_PATCH}; charset=utf-8"])
async def test_patch_sets_fields_and_clears_with_null(client: httpx.AsyncClient, media_type: str) -> None:
    await create(client, sku="A", category="light")
    answer = await client.patch(
        "/products/1",
        content='{"price": 20.5, "sku": null}',
        headers={**bearer(ADA), "Content-Type": media_type},
    )
    assert answer.status_code == 200
    product = answer.json()
    assert (product["price"], product["sku"], product["category"]) == ("20.50", None, "light")


@pytest.mark.parametrize(
    "media_type", ["application/json-patch+json", "text/plain", "application/x-www-form-urlencoded"]
)
async def test_patch_rejects_other_media_types(client: httpx.AsyncClient, media_type: str) -> None:
    await create(client)
    headers = {**bearer(ADA), "Content-Type": media_type}
    assert (await client.patch("/products/1", content="{}", headers=headers)).status_code == 415


async def test_put_rejects_a_merge_patch(client: httpx.AsyncClient) -> None:
    await create(client)
    headers = {**bearer(ADA), "Content-Type": MERGE_PATCH}
    assert (await client.put("/products/1", content="{}", headers=headers)).status_code == 415


@pytest.mark.parametrize("field", ["name", "price", "currency", "quantity"])
async def test_patch_rejects_null_for_required_fields(client: httpx.AsyncClient, field: str) -> None:
    await create(client)
    answer = await client.patch("/products/1", json={field: None}, headers=bearer(ADA))
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]
