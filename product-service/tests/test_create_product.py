"""Creating products: POST /products."""

import asyncio
from typing import Any

import httpx
import pytest

from testkit.products import DRAFT, bearer, create
from testkit.user_service_stub import ADA, BOB


async def test_new_product_is_returned_with_its_location(client: httpx.AsyncClient) -> None:
    answer = await client.post("/products", json=DRAFT, headers=bearer(ADA))
    assert answer.status_code == 201
    product = answer.json()
    assert answer.headers["location"] == f"/products/{product['id']}"
    assert (await client.get(answer.headers["location"])).json() == product
    assert product["created_at"] == product["updated_at"]
    assert product["created_at"].endswith("Z")
    del product["created_at"], product["updated_at"]
    assert product == {
        "id": 1,
        "name": "Lamp",
        "description": None,
        "price": "19.99",
        "currency": "USD",
        "quantity": 3,
        "sku": None,
        "category": None,
        "owner_id": 1,
        "version": 1,
    }


@pytest.mark.parametrize("price", ["19.99", '"19.99"', "1999e-2", "19.9900"])
async def test_price_can_be_a_number_or_a_string(client: httpx.AsyncClient, price: str) -> None:
    answer = await client.post(
        "/products",
        content=f'{{"name": "Lamp", "quantity": 1, "price": {price}}}',
        headers={**bearer(ADA), "Content-Type": "application/json"},
    )
    assert answer.json()["price"] == "19.99"


async def test_price_beyond_float_precision_is_exact(client: httpx.AsyncClient) -> None:
    assert (await create(client, price="9999999999.99"))["price"] == "9999999999.99"


async def test_caller_owns_the_product(client: httpx.AsyncClient) -> None:
    assert (await create(client, ADA))["owner_id"] == 1
    assert (await create(client, BOB))["owner_id"] == 2


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "   "}, "/name"),
        ({"name": "\u200b\u2060 \u3164"}, "/name"),
        ({"name": "\U000e0041\ufe0f\u2800"}, "/name"),
        ({"name": "x" * 256}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": None}, "/name"),
        ({"name": 7}, "/name"),
        ({"name": True}, "/name"),
        ({"description": "x" * 10_001}, "/description"),
        ({"description": "a\x1bb"}, "/description"),
        ({"description": 7}, "/description"),
        ({"price": 0}, "/price"),
        ({"price": "0.00"}, "/price"),
        ({"price": -1}, "/price"),
        ({"price": None}, "/price"),
        ({"price": True}, "/price"),
        ({"price": "1e2"}, "/price"),
        ({"price": "1_0"}, "/price"),
        ({"price": "19.999"}, "/price"),
        ({"price": "12345678901"}, "/price"),
        ({"price": "1.5", "currency": "JPY"}, "/price"),
        ({"currency": "usd"}, "/currency"),
        ({"currency": "XAU"}, "/currency"),
        ({"currency": None}, "/currency"),
        ({"quantity": -1}, "/quantity"),
        ({"quantity": 2**31}, "/quantity"),
        ({"quantity": 1.5}, "/quantity"),
        ({"quantity": "3"}, "/quantity"),
        ({"quantity": True}, "/quantity"),
        ({"quantity": None}, "/quantity"),
        ({"sku": "\t"}, "/sku"),
        ({"sku": "x" * 65}, "/sku"),
        ({"category": "\t"}, "/category"),
        ({"category": "x" * 101}, "/category"),
        ({"owner_id": 2}, "/owner_id"),
        ({"id": 7}, "/id"),
        ({"version": 7}, "/version"),
    ],
    ids=str,
)
async def test_invalid_field_is_named_and_nothing_is_stored(
    client: httpx.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/products", json={**DRAFT, **changes}, headers=bearer(ADA))
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert (await client.get("/products")).json() == []


@pytest.mark.parametrize("price", ["1e400", "-1e400", "1E-400", "19.990000000000000000001"])
async def test_number_out_of_range_is_invalid(client: httpx.AsyncClient, price: str) -> None:
    content = f'{{"name": "Lamp", "quantity": 1, "price": {price}}}'
    headers = {**bearer(ADA), "Content-Type": "application/json"}
    assert (await client.post("/products", content=content, headers=headers)).status_code == 422


@pytest.mark.parametrize("price", ["NaN", "Infinity", "-Infinity", "1e99999999999999999999", "9" * 5000])
async def test_nan_and_infinity_are_rejected(client: httpx.AsyncClient, price: str) -> None:
    content = f'{{"name": "Lamp", "quantity": 1, "price": {price}}}'
    headers = {**bearer(ADA), "Content-Type": "application/json"}
    answer = await client.post("/products", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-body")


async def test_longest_values_are_accepted(client: httpx.AsyncClient) -> None:
    longest: dict[str, Any] = {
        "name": "💡" * 255,
        "description": "é\n" * 500,
        "price": "9999999999.9999",
        "currency": "CLF",
        "quantity": 2**31 - 1,
        "sku": "ß" * 64,
        "category": "ж" * 100,
    }
    product = await create(client, **longest)
    assert {name: product[name] for name in longest} == longest


async def test_sku_is_unique_until_its_product_is_deleted(client: httpx.AsyncClient) -> None:
    first = await create(client, sku="L-1")
    taken = await client.post("/products", json={**DRAFT, "sku": "L-1"}, headers=bearer(BOB))
    assert (taken.status_code, taken.json()["code"]) == (409, "sku-taken")
    await client.delete(f"/products/{first['id']}", headers=bearer(ADA))
    assert (await create(client, BOB, sku="L-1"))["sku"] == "L-1"


async def test_several_products_can_have_no_sku(client: httpx.AsyncClient) -> None:
    await create(client)
    await create(client)


async def test_concurrent_creations_with_one_sku_create_one_product(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(client.post("/products", json={**DRAFT, "sku": "L-1"}, headers=bearer(ADA)) for _ in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
