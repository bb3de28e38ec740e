"""The audit log of the product service."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chassis.errors import DatabaseUnavailable
from product_service.repositories.products import ProductRepository
from product_service.services import import_export
from testkit.products import bearer, create
from testkit.user_service_stub import ADA, BOB

FILE = b"sku,name,price,quantity\nA,Lamp,1,1\nB,Lamp,1,1\nC,Lamp,x,1\nA,Lamp,1,1\n"


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    records = [
        each.msg for each in caplog.records if isinstance(each.msg, dict) and each.name == "audit.product_service"
    ]
    wanted = ("event", "account_id", "outcome", "dry_run", *import_export.OUTCOMES, "products")
    lines = [{name: record[name] for name in wanted if name in record} for record in records]
    assert all(record["request_id"] for record in records)
    caplog.clear()
    return lines


async def send(client: httpx.AsyncClient, content: Any, token: str = ADA, **query: str) -> httpx.Response:
    headers = {**bearer(token), "Content-Type": "text/csv"}
    return await client.post("/products/import", content=content, headers=headers, params=query)


async def test_imports_are_audited_with_their_counts_and_outcome(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = {"event": "products imported", "account_id": 1, "outcome": "completed", "dry_run": False}
    counts = {"created": 2, "updated": 0, "unchanged": 0, "refused": 2}
    assert (await send(client, FILE, dry_run="true")).status_code == 200
    assert audited(caplog) == [{**line, **counts, "dry_run": True}]
    assert (await send(client, FILE)).status_code == 200
    assert audited(caplog) == [{**line, **counts}]
    nothing = dict.fromkeys(counts, 0)
    assert (await send(client, b"a,b\n", BOB)).status_code == 422
    assert audited(caplog) == [{**line, **nothing, "account_id": 2, "outcome": "validation-failed"}]

    monkeypatch.setattr(import_export, "BATCH_SIZE", 1)
    find = ProductRepository.find_by_id_or_sku

    def fail_on_b(repository: ProductRepository, ids: set[int], skus: set[str]) -> Any:
        if "B" in skus:
            raise DatabaseUnavailable
        return find(repository, ids, skus)

    with monkeypatch.context() as patch:
        patch.setattr(ProductRepository, "find_by_id_or_sku", fail_on_b)
        assert (await send(client, FILE)).status_code == 503
    assert audited(caplog) == [{**line, **nothing, "unchanged": 1, "outcome": "import-interrupted"}]


async def test_exports_are_audited_with_the_number_of_products(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_export, "BATCH_SIZE", 2)
    for _ in range(3):
        await create(client)
    line = {"event": "products exported", "account_id": 2, "outcome": "completed"}
    for query, products in (("format=csv", 3), ("format=ndjson&q=desk", 0)):
        assert (await client.get(f"/products/export?{query}", headers=bearer(BOB))).status_code == 200
        assert audited(caplog) == [{**line, "products": products}]
    # A HEAD exports nothing.
    assert (await client.head("/products/export?format=csv", headers=bearer(BOB))).status_code == 200
    assert audited(caplog) == []

    def fail(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable

    monkeypatch.setattr(ProductRepository, "selected", fail)
    assert (await client.get("/products/export?format=csv", headers=bearer(BOB))).status_code == 503
    assert audited(caplog) == [{**line, "products": 0, "outcome": "database-unavailable"}]


@pytest.mark.sqlite
async def test_interrupted_export_is_audited(
    app: FastAPI, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_export, "BATCH_SIZE", 2)
    sent = asyncio.Event()
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await sent.wait()
        return {"type": "http.disconnect"}

    async def send_to_slow_client(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.set()
            await asyncio.Event().wait()

    for _ in range(5):
        await create(client)
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/products/export",
        "raw_path": b"/products/export",
        "query_string": b"format=csv",
        "headers": [(b"authorization", f"Bearer {ADA}".encode())],
        "state": {},
    }
    async with asyncio.timeout(30):
        await app(scope, receive, send_to_slow_client)
    expected = {"event": "products exported", "account_id": 1, "outcome": "interrupted", "products": 2}
    assert audited(caplog) == [expected]
