"""Which product a line of an imported file is about: ids, SKUs, repeated lines, and imports that create nothing."""

import json
from typing import Any

import httpx
import pytest

from product_service.repositories.products import ProductRepository
from product_service.services import import_export
from product_service.services.import_export import REPEATED
from product_service.services.upserts import NO_SUCH_PRODUCT, NO_SUCH_SKU
from testkit.products import bearer, create
from testkit.user_service_stub import ADA, BOB, ROOT

CSV, NDJSON = "text/csv", "application/x-ndjson"


async def run_import(
    client: httpx.AsyncClient, content: str, media_type: str = CSV, token: str = ADA, **query: str
) -> dict[str, Any]:
    """The counts that are not 0, and the details by line."""
    headers = {**bearer(token), "Content-Type": media_type}
    answer = await client.post("/products/import", content=content, headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    del report["file"]
    errors = {error["line"]: error["detail"] for error in report.pop("errors")}
    return {name: value for name, value in {**report, "errors": errors}.items() if value}


async def export(client: httpx.AsyncClient, **query: str) -> str:
    answer = await client.get("/products/export", params=query, headers=bearer(ADA))
    assert answer.status_code == 200, answer.text
    return answer.text


async def skus(client: httpx.AsyncClient) -> list[tuple[int, str | None, str]]:
    found = (await client.get("/products?limit=100")).json()
    return [(each["id"], each["sku"], each["price"]) for each in found]


@pytest.mark.parametrize("name", ["csv", "ndjson"])
async def test_changed_price_of_a_product_without_a_sku_is_an_update(client: httpx.AsyncClient, name: str) -> None:
    product = await create(client)
    await create(client)
    exported = await export(client, format=name, include_id="true")
    media_type = {"csv": CSV, "ndjson": NDJSON}[name]
    assert await run_import(client, exported, media_type) == {"unchanged": 2}
    assert await run_import(client, exported.replace("19.99", "5.00", 1), media_type) == {"updated": 1, "unchanged": 1}
    assert await skus(client) == [(product["id"], None, "5.00"), (product["id"] + 1, None, "19.99")]
    history = (await client.get(f"/products/{product['id']}/history", headers=bearer(ADA))).json()
    assert (history[0]["action"], history[0]["after"]) == ("changed", {"price": "5.00"})
    # Without an id, the line is about another product.
    without = await export(client, format=name)
    assert await run_import(client, without.replace("19.99", "7.00"), media_type) == {"created": 1, "unchanged": 1}


async def test_sku_that_is_taken_concurrently_is_refused(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [(await create(client, sku=sku))["id"] for sku in "AB"]
    taken = (await create(client, BOB, sku="C"))["id"]
    reads = []

    def without_taken(read: Any) -> Any:
        def read_before(repository: ProductRepository, ids: Any, skus: Any) -> Any:
            """As if the other transaction had been committed after the first two reads."""
            reads.append(ids)
            return [each for each in read(repository, ids, skus) if len(reads) > 2 or each.id != taken]

        return read_before

    for name in ("find_by_id_or_sku", "lock_by_id_or_sku"):
        monkeypatch.setattr(ProductRepository, name, without_taken(getattr(ProductRepository, name)))
    lines = [{"id": first, "sku": "C"}, {"id": second, "price": "5.00"}]
    assert await run_import(client, "".join(f"{json.dumps(line)}\n" for line in lines), NDJSON) == {
        "updated": 1,
        "refused": 1,
        "errors": {1: "Another product has this SKU."},
    }
    assert [(sku, price) for _, sku, price in await skus(client)] == [("A", "19.99"), ("B", "5.00"), ("C", "19.99")]


async def test_id_finds_the_product_whatever_its_sku(client: httpx.AsyncClient) -> None:
    first, second, third = [(await create(client, sku=sku))["id"] for sku in "ABC"]
    bobs = (await create(client, BOB, sku="D"))["id"]
    lines = [
        {"id": first, "sku": "X"},
        {"sku": "A", "name": "Cup", "price": 1, "quantity": 1},  # Its SKU is free now.
        {"id": second, "sku": "C"},
        {"id": third, "sku": None},
        {"id": bobs, "quantity": 0},
        {"id": 999_999, "sku": "E", "name": "Cup", "price": 1, "quantity": 1},
        {"id": 2**63, "quantity": 1},
    ]
    assert await run_import(client, "".join(f"{json.dumps(line)}\n" for line in lines), NDJSON) == {
        "created": 1,
        "updated": 2,
        "refused": 4,
        "errors": {
            3: "Another product has this SKU.",
            5: "Only the product's owner or an admin can do this.",
            6: "No product has this id.",
            7: "id: Must be at most 9223372036854775807",
        },
    }
    assert [sku for _, sku, _ in await skus(client)] == ["X", "B", None, "D", "A"]
    # An empty cell is a product without an id; so new products can be added to an exported file.
    assert await run_import(client, f"id,sku,price,name,quantity\n,X,3,,\n,N,4,New,1\n{second},B,5,,\n") == {
        "created": 1,
        "updated": 2,
    }
    assert await run_import(client, f"id,quantity\n{bobs},0\n", CSV, ROOT) == {"updated": 1}


async def test_sku_of_a_product_created_by_the_same_file_is_taken(client: httpx.AsyncClient) -> None:
    product = await create(client, sku="A")
    file = f"id,sku,name,price,quantity\n,B,Cup,1,1\n{product['id']},B,,,\n"
    report = await run_import(client, file, allow_repeated_sku="true")
    assert report == {"created": 1, "refused": 1, "errors": {3: "Another product has this SKU."}}


async def test_mode_update_creates_nothing(client: httpx.AsyncClient) -> None:
    await create(client, sku="A")
    await create(client, name="Cup", price="1", quantity=1)
    file = "sku,name,price,quantity\nA,Lamp,20,3\nB,,,4\n,Cup,1,1\n,Cup,1,1\n,Bowl,1,1\n"
    expected = {
        "updated": 1,
        "unchanged": 1,
        "refused": 3,
        "errors": {3: f"sku: {NO_SUCH_SKU}", 5: NO_SUCH_PRODUCT, 6: NO_SUCH_PRODUCT},
    }
    for dry_run in ("true", "false"):
        assert await run_import(client, file, mode="update", dry_run=dry_run) == expected
    assert len(await skus(client)) == 2
    assert await run_import(client, file, mode="upsert") == {
        "created": 2,
        "unchanged": 2,
        "refused": 1,
        "errors": {3: "name: This is required; price: This is required"},
    }


@pytest.mark.parametrize("batch_size", [1, 500])
async def test_repeated_products_are_refused_unless_allowed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr(import_export, "BATCH_SIZE", batch_size)
    product = await create(client, sku="A")
    file = f"id,sku,quantity\n,A,5\n,A,6\n{product['id']},A,7\n{product['id']},A,8\n"
    refused = {3: f"sku: {REPEATED}", 4: f"id: {REPEATED}", 5: f"id: {REPEATED}"}
    assert await run_import(client, file) == {"updated": 1, "refused": 3, "errors": refused}
    assert (await client.get(f"/products/{product['id']}")).json()["quantity"] == 5
    assert await run_import(client, file, allow_repeated_sku="true") == {"unchanged": 1, "updated": 3}
    assert (await client.get(f"/products/{product['id']}")).json()["quantity"] == 8
    without_sku = f"id,quantity\n{product['id']},5\n{product['id']},6\n"
    report = await run_import(client, without_sku)
    assert report == {"updated": 1, "refused": 1, "errors": {3: f"id: {REPEATED}"}}


async def test_remembered_products_are_limited(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export, "MAX_KEYS", 2)
    file = "sku,name,price,quantity\nA,Cup,1,1\nB,Cup,1,1\nC,Cup,1,1\n"
    report = await run_import(client, file)
    assert (report["created"], report["errors"]) == (
        2,
        {4: "More than 2 products; import the rest from another file, or set allow_repeated_sku"},
    )
    assert await run_import(client, file, allow_repeated_sku="true") == {"created": 1, "unchanged": 2}
