"""Products from a file: created, changed or refused line by line, in batches that stay, and safe to do again."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from chassis.errors import DatabaseUnavailable
from product_service.main import create_app
from product_service.repositories.products import ProductRepository
from product_service.services import import_export as transfer
from testkit.applications import running
from testkit.products import MakeSettings, bearer, create
from testkit.user_service_stub import ADA, BOB, ROOT

CSV = {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}
HEAD = "sku,name,price,quantity\n"


async def send(
    client: httpx.AsyncClient, content: Any, headers: dict[str, str] = CSV, token: str = ADA, **query: Any
) -> httpx.Response:
    return await client.post("/products/import", content=content, headers={**bearer(token), **headers}, params=query)


async def do(client: httpx.AsyncClient, content: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
    """What became of the lines, without what there was none of."""
    answer = await send(client, content, *arguments, **more)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    assert list(report) == ["created", "updated", "unchanged", "refused", "errors"]
    assert len(report["errors"]) == min(report["refused"], 1_000)
    return {name: value for name, value in report.items() if value}


async def catalogue(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/products?limit=100")).json()
    return found


async def history(client: httpx.AsyncClient, product_id: int) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await client.get(f"/products/{product_id}/history", headers=bearer(ROOT))).json()
    return entries


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BATCH", 2)
    monkeypatch.setattr(transfer, "PIECE", 20)


async def test_lines_create_change_and_leave_as_it_is_what_has_their_sku(client: httpx.AsyncClient) -> None:
    there = await create(client, sku="A", description="of brass", category="light")
    same = await create(client, sku="B")
    file = 'sku,name,price,quantity,description\nA,Lamp,20,3,"of\nsteel"\nB,Lamp,19.99,3,\nC,Cup,5,1,\n'
    assert await do(client, file) == {"created": 1, "updated": 1, "unchanged": 1}

    changed, unchanged, new = await catalogue(client)
    assert (changed["id"], changed["price"], changed["description"]) == (there["id"], "20.00", "of\nsteel")
    assert (changed["category"], changed["version"], changed["owner_id"]) == ("light", 2, 1)
    assert unchanged == same
    assert (new["sku"], new["name"], new["price"], new["currency"]) == ("C", "Cup", "5.00", "USD")
    assert (new["owner_id"], new["version"], new["description"]) == (1, 1, None)

    [change, _] = await history(client, there["id"])
    assert (change["action"], change["changed_by"], change["version"]) == ("changed", 1, 2)
    assert change["before"] == {"price": "19.99", "description": "of brass"}
    assert change["after"] == {"price": "20.00", "description": "of\nsteel"}
    [creation] = await history(client, new["id"])
    assert (creation["action"], creation["after"]["name"]) == ("created", "Cup")

    # What is new is found like any other, and the same again changes nothing.
    assert [each["sku"] for each in (await client.get("/products?q=cup")).json()] == ["C"]
    assert [each["sku"] for each in (await client.get("/products?q=steel")).json()] == ["A"]
    assert await do(client, file) == {"unchanged": 3}
    assert len(await history(client, there["id"])) == 2


async def test_what_a_line_does_not_hold_stays_and_what_it_clears_is_cleared(client: httpx.AsyncClient) -> None:
    await create(client, sku="A", description="of brass", category="light")
    assert await do(client, "sku,quantity,category\nA,,\n") == {"updated": 1}
    assert await do(client, '{"sku": "A", "description": null}\n', NDJSON) == {"updated": 1}
    assert await do(client, '{"sku": "A", "quantity": 9}\n', NDJSON) == {"updated": 1}
    [product] = await catalogue(client)
    assert (product["quantity"], product["category"], product["description"]) == (9, None, None)
    assert (product["name"], product["price"], product["version"]) == ("Lamp", "19.99", 4)


async def test_lines_that_are_refused_are_told_with_number_and_reason_and_the_others_are_done(
    client: httpx.AsyncClient,
) -> None:
    await create(client, BOB, sku="of bob")
    await create(client, sku="yen", price="1200", currency="JPY")
    lines = [
        {"sku": "new", "name": "Cup", "price": "5", "quantity": 1},
        {"sku": "of bob", "quantity": 0},
        {"sku": "yen", "price": "1200.5", "name": "Not stored either"},
        {"sku": "poor"},
        {"sku": "gold", "name": "Bar", "price": "5.001", "quantity": 1},
        {"sku": "x" * 65, "quantity": -1},
        {"sku": "new", "quantity": 2},
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines)
    report = await do(client, content, NDJSON)
    assert report.pop("errors") == [
        {"line": 2, "detail": "Only the owner of a product, or an admin, may change it."},
        {"line": 3, "detail": "price: JPY has 0 decimals"},
        {"line": 4, "detail": "name: Field required; price: Field required; quantity: Field required"},
        {"line": 5, "detail": "price: USD has 2 decimals"},
        {
            "line": 6,
            "detail": "quantity: Input should be greater than or equal to 0; "
            "sku: Text should have at most 64 characters, not 65",
        },
    ]
    assert report == {"created": 1, "updated": 1, "refused": 5}
    found = {each["sku"]: each for each in await catalogue(client)}
    assert sorted(found) == ["new", "of bob", "yen"]
    assert (found["new"]["quantity"], found["of bob"]["quantity"], found["yen"]["name"]) == (2, 3, "Lamp")
    assert found["yen"]["version"] == 1


async def test_an_admin_changes_what_is_anothers_and_does_not_come_to_own_it(client: httpx.AsyncClient) -> None:
    product = await create(client, BOB, sku="of bob")
    assert await do(client, "sku,quantity\nof bob,0\n", CSV, ROOT) == {"updated": 1}
    [entry, _] = await history(client, product["id"])
    assert (entry["changed_by"], (await catalogue(client))[0]["owner_id"]) == (9, 2)


async def test_with_write_access_for_everybody_anothers_product_is_changed(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(product_write_access="authenticated"))) as client:
        await create(client, BOB, sku="of bob")
        assert await do(client, "sku,quantity\nof bob,0\n") == {"updated": 1}


@pytest.mark.usefixtures("small_batches")
async def test_a_sku_that_comes_more_than_once_is_created_and_then_changed(client: httpx.AsyncClient) -> None:
    file = HEAD + "A,Lamp,1,1\nA,Lamp,2,1\nA,Lamp,3,1\nB,Cup,1,1\nA,Lamp,4,1\n"
    assert await do(client, file) == {"created": 2, "updated": 3}
    first, _ = await catalogue(client)
    assert (first["price"], first["version"]) == ("4.00", 4)
    actions = [(each["action"], each["version"]) for each in await history(client, first["id"])]
    assert actions == [("changed", 4), ("changed", 3), ("changed", 2), ("created", 1)]


@pytest.mark.usefixtures("small_batches")
async def test_lines_without_a_sku_stand_for_as_many_products_however_often_they_are_imported(
    client: httpx.AsyncClient,
) -> None:
    await create(client, BOB, name="Cup", price="1", quantity=1)
    cup, lamp = ",Cup,1,1\n", ",Lamp,1.50,1\n"
    file = HEAD + cup + lamp + cup + cup
    assert await do(client, file) == {"created": 4}
    assert await do(client, file) == {"unchanged": 4}
    assert await do(client, file + cup + "A,Cup,1,1\n" + ",Cup,1,2\n") == {"created": 3, "unchanged": 4}
    names = [(each["name"], each["owner_id"]) for each in await catalogue(client)]
    assert names == [("Cup", 2), *[(name, 1) for name in ("Cup", "Lamp", "Cup", "Cup", "Cup", "Cup", "Cup")]]


async def test_there_is_a_limit_to_lines_without_a_sku(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MOST_WITHOUT_SKU", 2)
    report = await do(client, HEAD + ",a,1,1\n,b,1,1\n,c,1,1\nD,d,1,1\n")
    assert (report["created"], report["refused"]) == (3, 1)
    detail = "sku: There are more than 2 lines without a sku; import the others from another file"
    assert report["errors"] == [{"line": 4, "detail": detail}]


@pytest.mark.parametrize("query", ["dry_run", "not"])
@pytest.mark.usefixtures("small_batches")
async def test_a_dry_run_tells_the_same_and_changes_nothing(client: httpx.AsyncClient, query: str) -> None:
    await create(client, sku="A")
    before = await catalogue(client)
    file = HEAD + "A,Lamp,20,3\nB,Cup,5,1\nC,Cup,x,1\n,Cup,1,1\n,Cup,1,1\n"
    report = await do(client, file, **({"dry_run": "true"} if query == "dry_run" else {"dry_run": "false"}))
    assert report.pop("errors")[0]["line"] == 4
    assert report == {"created": 3, "updated": 1, "refused": 1}
    assert (await catalogue(client) == before) == (query == "dry_run")
    assert len(await history(client, before[0]["id"])) == (1 if query == "dry_run" else 2)


async def test_no_more_than_a_thousand_refused_lines_are_told_one_by_one(client: httpx.AsyncClient) -> None:
    report = await do(client, "sku\n" + "A\n" * 1_203)
    assert report["refused"] == 1_203
    assert [each["line"] for each in report["errors"]] == list(range(2, 1_002))


async def test_a_refused_line_makes_no_long_answer(client: httpx.AsyncClient) -> None:
    names = [character * 20_000 for character in "abc"]
    report = await do(client, json.dumps(dict.fromkeys(names)), NDJSON)
    assert report["errors"] == [{"line": 1, "detail": "a" * 500}]


async def test_a_refused_line_does_not_tell_a_terminal_what_to_do(client: httpx.AsyncClient) -> None:
    report = await do(client, json.dumps({"\x1b[2J\u202e💡": 1}), NDJSON)
    assert report["errors"] == [{"line": 1, "detail": "\\x1b[2J\\u202e💡: Unknown field"}]


async def test_a_batch_without_a_product_takes_nobodys_turn_to_write(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(ProductRepository, "lock_by_sku", fail)
    assert (await do(client, "1\n" * 2_000, NDJSON))["refused"] == 2_000


async def test_however_many_import_at_once_others_wait_for_one_batch(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[int] = []
    most = []
    put = transfer._Import.do

    async def count(run: Any, lines: Any) -> None:
        at_work.append(1)
        most.append(len(at_work))
        await put(run, lines)
        at_work.pop()

    monkeypatch.setattr(transfer._Import, "do", count)
    monkeypatch.setattr(transfer, "BATCH", 2)
    files = [HEAD + "".join(f"{name}{number},Cup,1,1\n" for number in range(9)) for name in "ABCD"]
    reports = await asyncio.gather(*(do(client, file) for file in files))
    assert reports == [{"created": 9}] * 4
    assert (max(most), len(most)) == (1, 20)


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"Content-Type": "application/json", "Authorization": "Bearer nobody"}, "[]", 415, "unsupported-media-type"),
        ({"Content-Type": "text/csv; charset=ISO-8859-1"}, HEAD, 415, "unsupported-media-type"),
        ({"Content-Encoding": "gzip"}, HEAD, 415, "unsupported-media-type"),
        ({"Content-Length": "104857601", "Authorization": "Bearer nobody"}, "", 413, "body-too-large"),
        ({"Authorization": "Bearer nobody"}, "nothing", 401, "invalid-token"),
        ({"Authorization": ""}, "nothing", 401, "not-authenticated"),
        ({}, "", 422, "validation-failed"),
        ({}, "name;price\nCup;1\n", 422, "validation-failed"),
    ],
)
async def test_what_cannot_be_imported_at_all_is_refused_in_the_order_of_all_calls(
    client: httpx.AsyncClient, headers: dict[str, str], content: str, status: int, code: str
) -> None:
    answer = await client.post("/products/import", content=content, headers={**bearer(ADA), **CSV, **headers})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await catalogue(client) == []


@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "us-ascii"])
async def test_a_charset_that_is_utf_8_is_no_matter(client: httpx.AsyncClient, charset: str) -> None:
    headers = {"Content-Type": f"text/csv; header=present; charset={charset}"}
    assert await do(client, HEAD + "A,Cup,1,1\n", headers) == {"created": 1}


async def test_an_unknown_parameter_is_refused_before_anything_is_done(client: httpx.AsyncClient) -> None:
    queries: list[dict[str, str]] = [{"dryrun": "true"}, {"dry_run": "yes"}]
    for query in queries:
        answer = await send(client, HEAD + "A,Cup,1,1\n", CSV, **query)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, next(iter(query)))
    assert await catalogue(client) == []


@pytest.mark.usefixtures("small_batches")
async def test_a_file_that_turns_out_too_large_leaves_the_batches_before_it(make_settings: MakeSettings) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield HEAD.encode()
        for number in range(1_000):
            yield f"{number},Cup,1,1\n".encode()

    async with running(create_app(make_settings(max_import_bytes=1_024, max_body_bytes=2_048))) as client:
        answer = await send(client, endless())
        assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
        assert "1024 bytes" in answer.json()["detail"]
        assert 10 < len(await catalogue(client)) < 100


async def test_the_limit_of_other_bodies_is_not_that_of_imports(client: httpx.AsyncClient) -> None:
    file = HEAD + "A,Cup,1,1\n" + " " * 60_000 * 20
    assert (await send(client, file + "\n" * 2)).status_code == 200
    assert len(await catalogue(client)) == 1


@pytest.mark.usefixtures("small_batches")
async def test_when_the_database_is_lost_what_is_done_stays_and_is_said_so_and_the_rest_can_be_imported(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = HEAD + "A,Cup,1,1\nB,Cup,1,1\nC,Cup,1,1\nD,Cup,1,1\n"
    lock_by_sku = ProductRepository.lock_by_sku

    def is_lost(repository: ProductRepository, skus: list[str]) -> Any:
        if "C" in skus:
            raise DatabaseUnavailable
        return lock_by_sku(repository, skus)

    with monkeypatch.context() as patch:
        patch.setattr(ProductRepository, "lock_by_sku", is_lost)
        answer = await send(client, file)
        assert (answer.status_code, answer.json()["code"]) == (503, "import-interrupted")
        assert "What was imported before stays" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        assert [each["sku"] for each in await catalogue(client)] == ["A", "B"]
        # Where nothing was done yet, or nothing is to be done, it is the usual answer.
        for answer in (await send(client, HEAD + "C,Cup,1,1\n"), await send(client, file, dry_run="true")):
            assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
    assert await do(client, file) == {"created": 2, "unchanged": 2}


@pytest.mark.usefixtures("small_batches")
async def test_an_upload_that_breaks_off_leaves_the_batches_before_it(app: FastAPI) -> None:
    lines = [HEAD.encode(), b"A,Cup,1,1\nB,Cup,1,1\nC,Cup,1,1\n"]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return (
            {"type": "http.request", "body": lines.pop(0), "more_body": True} if lines else {"type": "http.disconnect"}
        )

    async def keep(message: Any) -> None:
        sent.append(message)

    async with running(app) as client:
        headers = [(b"content-type", b"text/csv"), (b"authorization", f"Bearer {ADA}".encode())]
        scope = {"type": "http", "method": "POST", "path": "/products/import", "query_string": b"", "headers": headers}
        await app({**scope, "raw_path": b"/products/import", "scheme": "http", "state": {}}, receive, keep)
        assert sent[0]["status"] == 400
        assert [each["sku"] for each in await catalogue(client)] == ["A", "B"]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("skus", ["with skus", "without skus"])
async def test_two_who_import_the_same_file_at_once_make_one_of_each(
    make_settings: MakeSettings, database: Engine, skus: str
) -> None:
    lines = [f"{'S' + str(number) if skus == 'with skus' else ''},Cup {number},1,1\n" for number in range(40)]
    # The other way round, so that they meet in the middle of what the other one has not committed yet.
    files = [HEAD + "".join(lines), HEAD + "".join(reversed(lines))]
    async with running(create_app(make_settings())) as one, running(create_app(make_settings())) as two:
        reports = await asyncio.gather(
            *(do(each, file) for each, file in zip((one, two, one, two), files * 2, strict=True))
        )
    assert sum(report.get("created", 0) for report in reports) == 40
    assert sum(report.get("unchanged", 0) for report in reports) == 120
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*), count(DISTINCT name) FROM products")).one() == (40, 40)
        assert connection.execute(text("SELECT count(*) FROM changes")).scalar_one() == 40


@pytest.mark.postgresql
async def test_a_product_that_somebody_creates_meanwhile_is_found(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite nobody can: there is one writer at a time."""
    loop = asyncio.get_running_loop()
    add_all = ProductRepository.add_all
    calls = []

    def is_slower(repository: ProductRepository, products: Any) -> None:
        calls.append(len(products))
        if len(calls) == 1:
            asyncio.run_coroutine_threadsafe(create(client, sku="A", price="5"), loop).result(10)
        add_all(repository, products)

    monkeypatch.setattr(ProductRepository, "add_all", is_slower)
    assert await do(client, HEAD + "A,Lamp,20,3\nB,Cup,1,1\n") == {"created": 1, "updated": 1}
    # The import tried once, and once more after the creation in between.
    assert calls == [2, 1]
    assert [(each["sku"], each["price"]) for each in await catalogue(client)] == [("A", "20.00"), ("B", "1.00")]
