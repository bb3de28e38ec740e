"""The catalogue as a file: what is selected, whole, and readable by the import; or visibly not whole."""

import asyncio
import csv
import io
import json
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
from product_service.services import import_export as transfer
from testkit.applications import running
from testkit.databases import NewDatabase
from testkit.product_list import Json, expected
from testkit.products import MakeSettings, bearer, create, migrations_of, product, store
from testkit.user_service_stub import ADA, BOB

FACTS = ("name", "description", "price", "currency", "quantity", "sku", "category")


def facts(answered: Json) -> Json:
    return {name: answered[name] for name in FACTS}


async def export(client: httpx.AsyncClient, **query: Any) -> httpx.Response:
    answer = await client.get("/products/export", params=query, headers=bearer(ADA))
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BATCH", 7)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    "query", [{}, {"sort": "-price"}, {"q": "lamp", "sort": "name"}, {"owner_id": "2"}, {"q": "nothing"}]
)
async def test_the_products_that_are_selected_come_in_their_order(
    client: httpx.AsyncClient, everything: list[Json], query: dict[str, str]
) -> None:
    by_id = {each["id"]: each for each in everything}
    wanted = [facts(by_id[each]) for each in expected(everything, query)]
    answer = await export(client, format="ndjson", **query)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="products.ndjson"'
    assert [json.loads(line) for line in answer.text.split("\n")[:-1]] == wanted

    answer = await export(client, format="csv", **query)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    head, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert tuple(head) == FACTS
    assert [row[2] for row in rows] == [each["price"] for each in wanted]


@pytest.mark.parametrize("form", ["csv", "ndjson"])
async def test_what_is_exported_is_imported_exactly(
    client: httpx.AsyncClient, everything: list[Json], make_settings: MakeSettings, new_database: NewDatabase, form: str
) -> None:
    exported = await export(client, format=form)
    headers = {**bearer(BOB), "Content-Type": exported.headers["content-type"]}
    async with running(create_app(make_settings(database_url=new_database(migrations_of)))) as elsewhere:
        answer = await elsewhere.post("/products/import", content=exported.content, headers=headers)
        assert answer.json() == {"created": 60, "updated": 0, "unchanged": 0, "refused": 0, "errors": []}
        assert (await export(elsewhere, format=form)).content == exported.content
        copies = (await elsewhere.get("/products?limit=100")).json()
        assert [[each[name] for name in FACTS] for each in copies] == [
            [each[name] for name in FACTS] for each in everything
        ]
        assert {each["owner_id"] for each in copies} == {2}
        again = await elsewhere.post("/products/import", content=exported.content, headers=headers)
        assert again.json()["unchanged"] == 60


async def test_it_is_protected_and_says_what_it_does_not_know(client: httpx.AsyncClient) -> None:
    assert (await client.get("/products/export?format=csv")).status_code == 401
    for query, parameter in (("", "format"), ("?format=xml", "format"), ("?format=csv&limit=5", "limit")):
        answer = await client.get(f"/products/export{query}", headers=bearer(ADA))
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, parameter)


def lost_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the database after so many reads of the list."""
    selected = ProductRepository.selected
    reads: list[int] = []

    def select(repository: ProductRepository, *arguments: Any, **more: Any) -> Sequence[Any]:
        reads.append(1)
        if len(reads) > batches:
            raise DatabaseUnavailable
        return selected(repository, *arguments, **more)

    monkeypatch.setattr(ProductRepository, "selected", select)


async def test_a_failure_before_the_first_line_is_an_answer_of_its_own(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_after(0, monkeypatch)
    answer = await client.get("/products/export?format=csv", headers=bearer(ADA))
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
    assert "content-disposition" not in answer.headers


@pytest.mark.usefixtures("small_batches", "everything")
async def test_a_failure_in_the_middle_cuts_the_connection_so_that_nobody_takes_it_for_the_end(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_after(3, monkeypatch)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/products/export?format=csv"
        received = b""
        async with httpx.AsyncClient(headers=bearer(ADA)) as outside, outside.stream("GET", url) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - it comes in the middle of the pieces
                async for piece in answer.aiter_raw():
                    received += piece
        assert received.startswith(b"name,description")
    finally:
        server.should_exit = True
        await serving


@pytest.mark.usefixtures("small_batches")
async def test_while_products_come_and_go_none_comes_twice_and_none_is_lost_that_was_there_throughout(
    client: httpx.AsyncClient, database: Engine
) -> None:
    store(database, (product(name=f"old {number}", sku=f"old {number}") for number in range(100)))
    done = asyncio.Event()

    async def disturb() -> None:
        number = 0
        while not done.is_set():
            number += 1
            created = await create(client, name="new", sku=f"new {number}")
            if number % 2:
                await client.delete(f"/products/{created['id']}", headers=bearer(ADA))
            await client.delete(f"/products/{number * 3 % 100 + 1}", headers=bearer(ADA))

    disturbing = asyncio.create_task(disturb())
    try:
        for _ in range(3):
            answer = await export(client, format="ndjson")
            skus = [json.loads(line)["sku"] for line in answer.text.split("\n")[:-1]]
            assert len(skus) == len(set(skus))
            there = {
                each["sku"]
                for page in (0, 100)
                for each in (await client.get(f"/products?limit=100&skip={page}")).json()
            }
            assert {sku for sku in there if sku.startswith("old")} <= set(skus)
    finally:
        done.set()
        await disturbing


@pytest.mark.parametrize(("path", "methods"), [("/products/import", "POST"), ("/products/export", "GET, HEAD")])
async def test_the_words_in_the_place_of_an_id_have_methods_of_their_own(
    client: httpx.AsyncClient, path: str, methods: str
) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(methods.split(", ")):
        answer = await client.request(method, path, headers=bearer(ADA))
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
    # What only begins like them may be meant for an id, and is none.
    for other in (f"{path}s", "/products/abc"):
        answer = await client.get(other)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "product_id")
