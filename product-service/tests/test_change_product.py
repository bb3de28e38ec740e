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


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_the_whole_product_can_be_sent_back(client: httpx.AsyncClient, method: str) -> None:
    await create(client, sku="L-1")
    product = (await client.get("/products/1")).json()
    edited = {**product, "price": "5.00", "category": "light"}
    answer = await client.request(method, "/products/1", json=edited, headers={**bearer(ADA), "If-Match": '"1"'})
    assert answer.status_code == 200
    assert answer.json() == {**edited, "version": 2, "updated_at": answer.json()["updated_at"]}
    unchanged = await client.request(method, "/products/1", json=answer.json(), headers=bearer(ADA))
    assert unchanged.json() == answer.json()


OTHER_VALUES: dict[str, Any] = {
    "id": 2,
    "owner_id": 2,
    "version": 7,
    "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00",
}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_another_value_of_a_read_only_field_is_refused(client: httpx.AsyncClient, method: str) -> None:
    product = await create(client)
    for field, value in OTHER_VALUES.items():
        body = {**product, "name": "Desk lamp", field: value}
        answer = await client.request(method, "/products/1", json=body, headers=bearer(ADA))
        assert answer.status_code == 422
        stale = "The product has changed since it was read; read it again, or omit this field"
        read_only = "Read-only; omit it, or send the current value"
        detail = stale if field in ("version", "updated_at") else read_only
        assert answer.json()["errors"] == [{"pointer": f"/{field}", "detail": detail}]
    assert (await client.get("/products/1")).json() == product


async def test_the_version_in_if_match_is_checked_before_read_only_fields(client: httpx.AsyncClient) -> None:
    product = await create(client)
    await change(client, 1, {"name": "Desk lamp"})
    answer = await client.put("/products/1", json=product, headers={**bearer(ADA), "If-Match": '"1"'})
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed")


@pytest.mark.parametrize("field", ["sku", "category"])
async def test_empty_text_is_null(client: httpx.AsyncClient, field: str) -> None:
    """A form sends an empty text for a field that was left empty; two products can't have the same SKU."""
    product = await create(client, **{field: "something"})
    assert (await create(client, **{field: ""}))[field] is None
    answer = await change(client, product["id"], {field: ""})
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


async def test_accept_patch_names_the_formats_of_a_patch(client: httpx.AsyncClient) -> None:
    await create(client)
    formats = f"{MERGE_PATCH}, application/json"
    patch = await client.patch("/products/1", content="{}", headers={**bearer(ADA), "Content-Type": "text/plain"})
    options = await client.options("/products/1")
    assert [(each.status_code, each.headers["accept-patch"]) for each in (patch, options)] == [
        (415, formats),
        (405, formats),
    ]
    assert "accept-patch" not in (await client.options("/products")).headers


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
