"""Exporting products: GET /products/export."""

import asyncio
import csv
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from chassis.errors import DatabaseUnavailable
from product_service.main import create_app
from product_service.repositories.products import ProductRepository
from product_service.services import import_export, products
from testkit.applications import running
from testkit.databases import NewDatabase
from testkit.product_list import Json, expected
from testkit.products import MakeSettings, bearer, create, migrations_of, product, store
from testkit.user_service_stub import ADA, BOB

COLUMNS = ("name", "description", "price", "currency", "quantity", "sku", "category")


def editable(product: Json) -> Json:
    return {name: product[name] for name in COLUMNS}


async def export(client: httpx.AsyncClient, **query: Any) -> httpx.Response:
    answer = await client.get("/products/export", params=query, headers=bearer(ADA))
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export, "BATCH_SIZE", 7)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    "query", [{}, {"sort": "-price"}, {"q": "lamp", "sort": "name"}, {"owner_id": "2"}, {"q": "nothing"}]
)
async def test_matching_products_are_exported_in_order(
    client: httpx.AsyncClient, everything: list[Json], query: dict[str, str]
) -> None:
    by_id = {each["id"]: each for each in everything}
    wanted = [editable(by_id[each]) for each in expected(everything, query)]
    answer = await export(client, format="ndjson", **query)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="products.ndjson"'
    assert [json.loads(line) for line in answer.text.split("\n")[:-1]] == wanted

    answer = await export(client, format="csv", **query)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert tuple(header) == COLUMNS
    assert [row[2] for row in rows] == [each["price"] for each in wanted]


@pytest.mark.parametrize("file_format", ["csv", "ndjson"])
async def test_import_restores_an_export_exactly(
    client: httpx.AsyncClient,
    everything: list[Json],
    make_settings: MakeSettings,
    new_database: NewDatabase,
    file_format: str,
) -> None:
    exported = await export(client, format=file_format)
    headers = {**bearer(BOB), "Content-Type": exported.headers["content-type"]}
    async with running(create_app(make_settings(database_url=new_database(migrations_of)))) as target:
        answer = await target.post("/products/import", content=exported.content, headers=headers)
        report = {"created": 60, "updated": 0, "unchanged": 0, "refused": 0, "errors": []}
        assert answer.json() == {**report, "file": answer.json()["file"]}
        assert (await export(target, format=file_format)).content == exported.content
        copies = (await target.get("/products?limit=100")).json()
        assert [[each[name] for name in COLUMNS] for each in copies] == [
            [each[name] for name in COLUMNS] for each in everything
        ]
        assert {each["owner_id"] for each in copies} == {2}
        again = await target.post("/products/import", content=exported.content, headers=headers)
        assert again.json()["unchanged"] == 60


async def test_token_and_valid_parameters_are_required(client: httpx.AsyncClient) -> None:
    assert (await client.get("/products/export?format=csv")).status_code == 401
    for query, parameter in (("", "format"), ("?format=xml", "format"), ("?format=csv&limit=5", "limit")):
        answer = await client.get(f"/products/export{query}", headers=bearer(ADA))
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, parameter)


async def test_head_returns_the_headers_without_reading_products(
    client: httpx.AsyncClient, everything: list[Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_after(1, monkeypatch)
    got = await client.get("/products/export?format=csv", headers=bearer(ADA))
    head = await client.head("/products/export?format=csv", headers=bearer(ADA))
    assert (head.status_code, head.content) == (200, b"")
    ignored = ("x-request-id",)
    assert [each for each in head.headers.items() if each[0] not in ignored] == [
        each for each in got.headers.items() if each[0] not in ignored
    ]
    assert (await client.head("/products/export?format=csv")).status_code == 401
    assert (await client.head("/products/export?format=xml", headers=bearer(ADA))).status_code == 422


def fail_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the database unavailable after this number of list reads."""
    selected = ProductRepository.selected
    reads: list[int] = []

    def select(repository: ProductRepository, *arguments: Any, **more: Any) -> Sequence[Any]:
        reads.append(1)
        if len(reads) > batches:
            raise DatabaseUnavailable
        return selected(repository, *arguments, **more)

    monkeypatch.setattr(ProductRepository, "selected", select)


async def test_failure_at_the_start_is_an_error_response(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_after(0, monkeypatch)
    answer = await client.get("/products/export?format=csv", headers=bearer(ADA))
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
    assert "content-disposition" not in answer.headers


@pytest.mark.usefixtures("small_batches", "everything")
async def test_failure_midway_aborts_the_connection(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_after(3, monkeypatch)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/products/export?format=csv"
        received = b""
        async with httpx.AsyncClient(headers=bearer(ADA)) as outside, outside.stream("GET", url) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - it is raised between the chunks
                async for chunk in answer.aiter_raw():
                    received += chunk
        assert received.startswith(b"name,description")
    finally:
        server.should_exit = True
        await serving


@pytest.mark.usefixtures("small_batches")
async def test_concurrent_changes_cause_no_duplicates_and_no_losses(
    client: httpx.AsyncClient, database: Engine
) -> None:
    store(database, (product(name=f"old {number}", sku=f"old {number}") for number in range(100)))
    done = asyncio.Event()

    async def make_changes() -> None:
        number = 0
        while not done.is_set():
            number += 1
            created = await create(client, name="new", sku=f"new {number}")
            if number % 2:
                await client.delete(f"/products/{created['id']}", headers=bearer(ADA))
            await client.delete(f"/products/{number * 3 % 100 + 1}", headers=bearer(ADA))

    changing = asyncio.create_task(make_changes())
    try:
        for _ in range(3):
            answer = await export(client, format="ndjson")
            skus = [json.loads(line)["sku"] for line in answer.text.split("\n")[:-1]]
            assert len(skus) == len(set(skus))
            remaining = {
                each["sku"]
                for page in (0, 100)
                for each in (await client.get(f"/products?limit=100&skip={page}")).json()
            }
            assert {sku for sku in remaining if sku.startswith("old")} <= set(skus)
    finally:
        done.set()
        await changing


@pytest.mark.parametrize(("path", "methods"), [("/products/import", "POST"), ("/products/export", "GET, HEAD")])
async def test_import_and_export_are_not_product_ids(client: httpx.AsyncClient, path: str, methods: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(methods.split(", ")):
        answer = await client.request(method, path, headers=bearer(ADA))
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
    # Paths that only start with these words are invalid product ids.
    for other in (f"{path}s", "/products/abc"):
        answer = await client.get(other)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "product_id")


async def test_pages_of_concurrent_exports_are_read_one_at_a_time(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, most, list_page = 0, 0, products._page

    def page(*args: Any, **kwargs: Any) -> Any:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        time.sleep(0.02)
        reading -= 1
        return list_page(*args, **kwargs)

    monkeypatch.setattr(products, "_page", page)
    await asyncio.gather(*(export(client, format="csv") for _ in range(5)))
    assert most == 1
