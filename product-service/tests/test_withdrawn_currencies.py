"""Products in a currency that ISO 4217 no longer lists."""

from decimal import Decimal

import httpx
import pytest
from sqlalchemy import Engine

from testkit.product_list import Json, ids
from testkit.products import DRAFT, bearer, create, product, store
from testkit.user_service_stub import ADA

REFUSED = [{"pointer": "/currency", "detail": "BGN has been withdrawn; use a current currency"}]


@pytest.fixture
async def stored(client: httpx.AsyncClient, database: Engine) -> Json:
    store(
        database, [product(currency="BGN", price=Decimal("19.5"), sku="A"), product(currency="BGN", price=Decimal(7))]
    )
    found: Json = (await client.get("/products/1")).json()
    return found


async def test_price_keeps_its_decimals(client: httpx.AsyncClient, stored: Json) -> None:
    assert (stored["price"], stored["currency"]) == ("19.50", "BGN")
    assert ids(await client.get("/products?currency=BGN")) == [1, 2]


async def test_product_can_be_changed(client: httpx.AsyncClient, stored: Json) -> None:
    editable = {name: stored[name] for name in ("name", "price", "currency", "quantity", "sku")}
    for change in ({**editable, "quantity": 7}, {"price": "18.25"}, {"currency": "BGN"}):
        answer = await client.put("/products/1", json=change, headers=bearer(ADA))
        assert (answer.status_code, answer.json()["currency"]) == (200, "BGN")
    answer = await client.put("/products/1", json={"price": "18.255"}, headers=bearer(ADA))
    assert answer.json()["errors"] == [{"pointer": "/price", "detail": "BGN has 2 decimals"}]
    answer = await client.put("/products/1", json={"currency": "EUR"}, headers=bearer(ADA))
    assert (answer.json()["price"], answer.json()["currency"]) == ("18.25", "EUR")
    answer = await client.put("/products/1", json={"currency": "BGN"}, headers=bearer(ADA))
    assert (answer.status_code, answer.json()["errors"]) == (422, REFUSED)


async def test_export_can_be_imported(client: httpx.AsyncClient, stored: Json) -> None:
    for media_type, name in (("text/csv", "csv"), ("application/x-ndjson", "ndjson")):
        file = await client.get(f"/products/export?format={name}", headers=bearer(ADA))
        headers = bearer(ADA) | {"Content-Type": media_type}
        answer = await client.post("/products/import", content=file.content, headers=headers)
        assert {**answer.json(), "unchanged": 2, "refused": 0} == answer.json()
        changed = file.content.replace(b"19.50", b"18.25").replace(b"7.00", b"8.00")
        report = (await client.post("/products/import", content=changed, headers=headers)).json()
        assert report["errors"] == [{"line": 3 if name == "csv" else 2, "detail": f"currency: {REFUSED[0]['detail']}"}]
        assert (await client.get("/products/1")).json()["price"] == "18.25"
        await client.put("/products/1", json={"price": "19.5"}, headers=bearer(ADA))


async def test_new_product_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/products", json={**DRAFT, "currency": "BGN"}, headers=bearer(ADA))
    assert (answer.status_code, answer.json()["errors"]) == (422, REFUSED)
    await create(client, currency="EUR")
    answer = await client.put("/products/1", json={"currency": "BGN"}, headers=bearer(ADA))
    assert (answer.status_code, answer.json()["errors"]) == (422, REFUSED)
    content = b"sku,name,price,quantity,currency\nB,Lamp,1,1,BGN\nC,Lamp,1,1,EUR\n,Lamp,1,1,BGN\n"
    headers = bearer(ADA) | {"Content-Type": "text/csv"}
    report = (await client.post("/products/import", content=content, headers=headers)).json()
    assert (report["created"], [error["line"] for error in report["errors"]]) == (1, [2, 4])
