"""Adjusting the stock: POST /products/{id}/stock."""

import asyncio
from collections import Counter

import httpx
import pytest

from auth_client import pool
from product_service.domain.fields import MAX_QUANTITY
from product_service.main import create_app
from testkit.applications import running
from testkit.products import MakeSettings, bearer, create
from testkit.user_service_stub import ADA, BOB, ROOT


async def adjust(client: httpx.AsyncClient, delta: object, reason: object = "sold", token: str = ADA) -> httpx.Response:
    return await client.post("/products/1/stock", json={"delta": delta, "reason": reason}, headers=bearer(token))


async def test_stock_is_added_and_removed(client: httpx.AsyncClient) -> None:
    product = await create(client, quantity=3)
    answer = await adjust(client, -2)
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    changed = answer.json()
    assert changed["updated_at"] > product["updated_at"]
    assert changed == {**product, "quantity": 1, "version": 2, "updated_at": changed["updated_at"]}
    assert (await adjust(client, 10)).json()["quantity"] == 11
    assert (await client.get("/products/1")).json()["quantity"] == 11


@pytest.mark.parametrize(
    ("quantity", "delta", "code"),
    [
        (3, -4, "insufficient-stock"),
        (0, -1, "insufficient-stock"),
        (0, -MAX_QUANTITY, "insufficient-stock"),
        (MAX_QUANTITY, 1, "too-much-stock"),
        (MAX_QUANTITY, MAX_QUANTITY, "too-much-stock"),
    ],
)
async def test_quantity_out_of_range_changes_nothing(
    client: httpx.AsyncClient, quantity: int, delta: int, code: str
) -> None:
    product = await create(client, quantity=quantity)
    answer = await adjust(client, delta)
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert (await client.get("/products/1")).json() == product


async def test_full_range_is_accepted(client: httpx.AsyncClient) -> None:
    await create(client, quantity=0)
    assert (await adjust(client, MAX_QUANTITY)).json()["quantity"] == MAX_QUANTITY
    assert (await adjust(client, -MAX_QUANTITY)).json()["quantity"] == 0


@pytest.mark.parametrize("delta", [0, None, "1", 1.5, True, MAX_QUANTITY + 1, -(2**63)])
async def test_invalid_delta_is_rejected(client: httpx.AsyncClient, delta: object) -> None:
    await create(client)
    answer = await adjust(client, delta)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/delta"]


@pytest.mark.parametrize("reason", ["", " ", None, 1, "x" * 201, "a\nb"])
async def test_invalid_reason_is_rejected(client: httpx.AsyncClient, reason: object) -> None:
    await create(client)
    answer = await adjust(client, 1, reason)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/reason"]


async def test_only_the_owner_and_admins_can_adjust_stock(client: httpx.AsyncClient) -> None:
    assert (await adjust(client, 1)).status_code == 404
    await create(client)
    assert (await adjust(client, 1, token=BOB)).status_code == 403
    assert (await adjust(client, 1, token=ROOT)).status_code == 200


async def test_concurrent_adjustments_never_oversell(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stub of the user service is slow with two hundred concurrent calls, which is not the point here.
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 30)
    settings = make_settings(database_pool_timeout=60, validation_timeout=30)
    async with running(create_app(settings)) as client:
        await create(client, quantity=100)
        answers = await asyncio.gather(*(adjust(client, -1) for _ in range(200)))
        assert Counter(answer.status_code for answer in answers) == {200: 100, 409: 100}
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"insufficient-stock"}
        # Each success returned a different quantity.
        assert {answer.json()["quantity"] for answer in answers if answer.status_code == 200} == set(range(100))
        product = (await client.get("/products/1")).json()
        assert (product["quantity"], product["version"]) == (0, 101)
        entries = (await client.get("/products/1/history?limit=100", headers=bearer(ADA))).json()
        assert all(entry["before"]["quantity"] - entry["after"]["quantity"] == 1 for entry in entries)
