"""Importing products: POST /products/import."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from chassis.errors import DatabaseUnavailable
from product_service.main import create_app
from product_service.repositories.products import ProductRepository
from product_service.services import import_export
from testkit.applications import running
from testkit.products import MakeSettings, bearer, create
from testkit.user_service_stub import ADA, BOB, ROOT

CSV = {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}
HEADER = "sku,name,price,quantity\n"


async def send(
    client: httpx.AsyncClient, content: Any, headers: dict[str, str] = CSV, token: str = ADA, **query: Any
) -> httpx.Response:
    return await client.post("/products/import", content=content, headers={**bearer(token), **headers}, params=query)


async def run_import(client: httpx.AsyncClient, content: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
    """Import a file and return the report without empty entries."""
    answer = await send(client, content, *arguments, **more)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    assert list(report) == ["created", "updated", "unchanged", "refused", "errors", "file"]
    del report["file"]
    assert len(report["errors"]) == min(report["refused"], 1_000)
    return {name: value for name, value in report.items() if value}


async def catalogue(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/products?limit=100")).json()
    return found


async def until_stored(client: httpx.AsyncClient, count: int) -> None:
    async with asyncio.timeout(20):
        while len(await catalogue(client)) < count:  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(0.01)


async def history(client: httpx.AsyncClient, product_id: int) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await client.get(f"/products/{product_id}/history", headers=bearer(ROOT))).json()
    return entries


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export, "BATCH_SIZE", 2)
    monkeypatch.setattr(import_export, "CHUNK_SIZE", 20)


async def test_lines_are_matched_by_sku(client: httpx.AsyncClient) -> None:
    existing = await create(client, sku="A", description="of brass", category="light")
    same = await create(client, sku="B")
    file = 'sku,name,price,quantity,description\nA,Lamp,20,3,"of\nsteel"\nB,Lamp,19.99,3,\nC,Cup,5,1,\n'
    assert await run_import(client, file) == {"created": 1, "updated": 1, "unchanged": 1}

    changed, unchanged, new = await catalogue(client)
    assert (changed["id"], changed["price"], changed["description"]) == (existing["id"], "20.00", "of\nsteel")
    assert (changed["category"], changed["version"], changed["owner_id"]) == ("light", 2, 1)
    assert unchanged == same
    assert (new["sku"], new["name"], new["price"], new["currency"]) == ("C", "Cup", "5.00", "USD")
    assert (new["owner_id"], new["version"], new["description"]) == (1, 1, None)

    [change, _] = await history(client, existing["id"])
    assert (change["action"], change["changed_by"], change["version"]) == ("changed", 1, 2)
    assert change["before"] == {"price": "19.99", "description": "of brass"}
    assert change["after"] == {"price": "20.00", "description": "of\nsteel"}
    [creation] = await history(client, new["id"])
    assert (creation["action"], creation["after"]["name"]) == ("created", "Cup")

    # What is new is found like any other, and the same again changes nothing.
    assert [each["sku"] for each in (await client.get("/products?q=cup")).json()] == ["C"]
    assert [each["sku"] for each in (await client.get("/products?q=steel")).json()] == ["A"]
    assert await run_import(client, file) == {"unchanged": 3}
    assert len(await history(client, existing["id"])) == 2


async def test_missing_fields_are_kept_and_null_clears_nullable_ones(client: httpx.AsyncClient) -> None:
    await create(client, sku="A", description="of brass", category="light")
    assert await run_import(client, "sku,quantity,category\nA,,\n") == {"updated": 1}
    assert await run_import(client, '{"sku": "A", "description": null}\n', NDJSON) == {"updated": 1}
    assert await run_import(client, '{"sku": "A", "quantity": 9}\n', NDJSON) == {"updated": 1}
    [product] = await catalogue(client)
    assert (product["quantity"], product["category"], product["description"]) == (9, None, None)
    assert (product["name"], product["price"], product["version"]) == ("Lamp", "19.99", 4)


async def test_refused_lines_are_reported_and_the_others_are_imported(
    client: httpx.AsyncClient,
) -> None:
    await create(client, BOB, sku="of bob")
    await create(client, sku="yen", price="1200", currency="JPY")
    lines = [
        {"sku": "new", "name": "Cup", "price": "5", "quantity": 1},
        {"sku": "of bob", "quantity": 0},
        {"sku": "yen", "price": "1200.5", "name": "Not stored"},
        {"sku": "poor"},
        {"sku": "gold", "name": "Bar", "price": "5.001", "quantity": 1},
        {"sku": "x" * 65, "quantity": -1},
        {"sku": "new", "quantity": 2},
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines)
    report = await run_import(client, content, NDJSON, allow_repeated_sku="true")
    assert report.pop("errors") == [
        {"line": 2, "detail": "Only the product's owner or an admin can do this."},
        {"line": 3, "detail": "price: JPY has 0 decimals"},
        {"line": 4, "detail": "name: This is required; price: This is required; quantity: This is required"},
        {"line": 5, "detail": "price: USD has 2 decimals"},
        {
            "line": 6,
            "detail": "quantity: Must be at least 0; sku: Must have at most 64 characters, not 65",
        },
    ]
    assert report == {"created": 1, "updated": 1, "refused": 5}
    found = {each["sku"]: each for each in await catalogue(client)}
    assert sorted(found) == ["new", "of bob", "yen"]
    assert (found["new"]["quantity"], found["of bob"]["quantity"], found["yen"]["name"]) == (2, 3, "Lamp")
    assert found["yen"]["version"] == 1


async def test_admin_changes_products_without_becoming_their_owner(client: httpx.AsyncClient) -> None:
    product = await create(client, BOB, sku="of bob")
    assert await run_import(client, "sku,quantity\nof bob,0\n", CSV, ROOT) == {"updated": 1}
    [entry, _] = await history(client, product["id"])
    assert (entry["changed_by"], (await catalogue(client))[0]["owner_id"]) == (9, 2)


async def test_write_access_setting_allows_other_callers(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(product_write_access="authenticated"))) as client:
        await create(client, BOB, sku="of bob")
        assert await run_import(client, "sku,quantity\nof bob,0\n") == {"updated": 1}


@pytest.mark.usefixtures("small_batches")
async def test_repeated_sku_is_created_and_then_changed(client: httpx.AsyncClient) -> None:
    file = HEADER + "A,Lamp,1,1\nA,Lamp,2,1\nA,Lamp,3,1\nB,Cup,1,1\nA,Lamp,4,1\n"
    allowed = {"allow_repeated_sku": "true"}
    # A dry run knows what earlier batches would have created.
    assert await run_import(client, file, dry_run="true", **allowed) == {"created": 2, "updated": 3}
    assert await run_import(client, file, **allowed) == {"created": 2, "updated": 3}
    first, _ = await catalogue(client)
    assert (first["price"], first["version"]) == ("4.00", 4)
    actions = [(each["action"], each["version"]) for each in await history(client, first["id"])]
    assert actions == [("changed", 4), ("changed", 3), ("changed", 2), ("created", 1)]


@pytest.mark.usefixtures("small_batches")
async def test_lines_without_a_sku_are_imported_once(
    client: httpx.AsyncClient,
) -> None:
    await create(client, BOB, name="Cup", price="1", quantity=1)
    cup, lamp = ",Cup,1,1\n", ",Lamp,1.50,1\n"
    file = HEADER + cup + lamp + cup + cup
    assert await run_import(client, file) == {"created": 4}
    assert await run_import(client, file) == {"unchanged": 4}
    assert await run_import(client, file + cup + "A,Cup,1,1\n" + ",Cup,1,2\n") == {"created": 3, "unchanged": 4}
    names = [(each["name"], each["owner_id"]) for each in await catalogue(client)]
    assert names == [("Cup", 2), *[(name, 1) for name in ("Cup", "Lamp", "Cup", "Cup", "Cup", "Cup", "Cup")]]


async def test_lines_without_a_sku_are_limited(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export, "MAX_WITHOUT_SKU", 2)
    report = await run_import(client, HEADER + ",a,1,1\n,b,1,1\n,c,1,1\nD,d,1,1\n")
    assert (report["created"], report["refused"]) == (3, 1)
    detail = "sku: More than 2 lines have no SKU; import the rest from another file"
    assert report["errors"] == [{"line": 4, "detail": detail}]


@pytest.mark.parametrize("query", ["dry_run", "not"])
@pytest.mark.usefixtures("small_batches")
async def test_dry_run_reports_the_same_and_changes_nothing(client: httpx.AsyncClient, query: str) -> None:
    await create(client, sku="A")
    before = await catalogue(client)
    file = HEADER + "A,Lamp,20,3\nB,Cup,5,1\nC,Cup,x,1\n,Cup,1,1\n,Cup,1,1\n"
    report = await run_import(client, file, **({"dry_run": "true"} if query == "dry_run" else {"dry_run": "false"}))
    assert report.pop("errors")[0]["line"] == 4
    assert report == {"created": 3, "updated": 1, "refused": 1}
    assert (await catalogue(client) == before) == (query == "dry_run")
    assert len(await history(client, before[0]["id"])) == (1 if query == "dry_run" else 2)


async def test_at_most_a_thousand_errors_are_reported(client: httpx.AsyncClient) -> None:
    report = await run_import(client, "sku,quantity\n" + "A,x\n" * 1_203)
    assert report["refused"] == 1_203
    assert [each["line"] for each in report["errors"]] == list(range(2, 1_002))


async def test_error_detail_is_truncated(client: httpx.AsyncClient) -> None:
    names = [character * 20_000 for character in "abc"]
    report = await run_import(client, json.dumps(dict.fromkeys(names)), NDJSON)
    assert report["errors"] == [{"line": 1, "detail": "a" * 500}]


async def test_control_characters_are_escaped_in_errors(client: httpx.AsyncClient) -> None:
    report = await run_import(client, json.dumps({"\x1b[2J\u202e💡": 1}), NDJSON)
    assert report["errors"] == [{"line": 1, "detail": "\\x1b[2J\\u202e💡: Unknown field"}]


async def test_batch_without_valid_lines_does_not_write(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(ProductRepository, "lock_by_id_or_sku", fail)
    assert (await run_import(client, "1\n" * 2_000, NDJSON))["refused"] == 2_000


async def test_concurrent_imports_run_one_batch_at_a_time(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_batches: list[int] = []
    concurrency = []
    store = import_export._Import.store

    async def count(run: Any, contents: Any) -> Any:
        running_batches.append(1)
        concurrency.append(len(running_batches))
        outcomes = await store(run, contents)
        running_batches.pop()
        return outcomes

    monkeypatch.setattr(import_export._Import, "store", count)
    monkeypatch.setattr(import_export, "BATCH_SIZE", 2)
    files = [HEADER + "".join(f"{name}{number},Cup,1,1\n" for number in range(9)) for name in "ABC"]
    imports = (run_import(client, file, CSV, token) for file, token in zip(files, (ADA, BOB, ROOT), strict=True))
    assert await asyncio.gather(*imports) == [{"created": 9}] * 3
    assert (max(concurrency), len(concurrency)) == (1, 15)


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"Content-Type": "application/json"}, "[]", 415, "unsupported-media-type"),
        ({"Content-Type": "text/csv; charset=ISO-8859-1"}, HEADER, 415, "unsupported-media-type"),
        ({"Content-Encoding": "gzip"}, HEADER, 415, "unsupported-media-type"),
        ({"Content-Length": "104857601"}, "", 413, "body-too-large"),
        ({"Content-Length": "104857601", "Authorization": "Bearer nobody"}, "", 401, "invalid-token"),
        ({"Content-Type": "application/json", "Authorization": "Bearer nobody"}, "[]", 401, "invalid-token"),
        ({"Authorization": ""}, "nothing", 401, "not-authenticated"),
        ({}, "", 422, "validation-failed"),
        ({}, "name;cost\nCup;1\n", 422, "validation-failed"),
    ],
)
async def test_unacceptable_requests_are_rejected(
    client: httpx.AsyncClient, headers: dict[str, str], content: str, status: int, code: str
) -> None:
    answer = await client.post("/products/import", content=content, headers={**bearer(ADA), **CSV, **headers})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await catalogue(client) == []


@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "us-ascii"])
async def test_utf_8_and_ascii_charsets_are_accepted(client: httpx.AsyncClient, charset: str) -> None:
    headers = {"Content-Type": f"text/csv; header=present; charset={charset}"}
    assert await run_import(client, HEADER + "A,Cup,1,1\n", headers) == {"created": 1}


async def test_invalid_parameter_is_rejected(client: httpx.AsyncClient) -> None:
    queries: list[dict[str, str]] = [{"dryrun": "true"}, {"dry_run": "yes"}]
    for query in queries:
        answer = await send(client, HEADER + "A,Cup,1,1\n", CSV, **query)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, next(iter(query)))
    assert await catalogue(client) == []


@pytest.mark.usefixtures("small_batches")
async def test_oversized_file_keeps_the_batches_before_the_limit(make_settings: MakeSettings) -> None:
    async def endless(*, waits: bool) -> AsyncIterator[bytes]:
        yield HEADER.encode() + b"".join(b"%d,Cup,1,1\n" % number for number in range(20))
        if waits:
            await until_stored(client, 2)
        for number in range(20, 1_000):
            yield b"%d,Cup,1,1\n" % number

    async with running(create_app(make_settings(max_import_bytes=1_024, max_body_bytes=2_048))) as client:
        answer = await send(client, endless(waits=True))
        assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
        detail = answer.json()["detail"]
        assert detail.startswith("The body is larger than 1024 bytes. Stored so far, up to line ")
        stored = len(await catalogue(client))
        assert 2 <= stored < 100
        assert detail.endswith(f" {stored + 1}: {stored} created, 0 updated, 0 unchanged, 0 refused.")
        # A dry run stores nothing.
        answer = await send(client, endless(waits=False), dry_run="true")
        assert answer.json()["detail"] == "The body is larger than 1024 bytes."


async def test_imports_have_a_size_limit_of_their_own(client: httpx.AsyncClient) -> None:
    file = HEADER + "A,Cup,1,1\n" + " " * 60_000 * 20
    assert (await send(client, file + "\n" * 2)).status_code == 200
    assert len(await catalogue(client)) == 1


@pytest.mark.usefixtures("small_batches")
async def test_interrupted_import_can_be_repeated(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    file = HEADER + "A,Cup,1,1\nB,Cup,1,1\nC,Cup,1,1\nD,Cup,1,1\n"
    lock = ProductRepository.lock_by_id_or_sku

    def fail_on_third(repository: ProductRepository, ids: set[int], skus: set[str]) -> Any:
        if "C" in skus:
            raise DatabaseUnavailable
        return lock(repository, ids, skus)

    with monkeypatch.context() as patch:
        patch.setattr(ProductRepository, "lock_by_id_or_sku", fail_on_third)
        answer = await send(client, file)
        assert (answer.status_code, answer.json()["code"]) == (503, "import-interrupted")
        assert "Products imported so far are saved" in answer.json()["detail"]
        assert answer.json()["detail"].endswith("up to line 3: 2 created, 0 updated, 0 unchanged, 0 refused.")
        assert int(answer.headers["retry-after"]) >= 1
        assert [each["sku"] for each in await catalogue(client)] == ["A", "B"]
        # If nothing has been saved yet, or in a dry run, the response is the usual one.
        for answer in (await send(client, HEADER + "C,Cup,1,1\n"), await send(client, file, dry_run="true")):
            assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
    assert await run_import(client, file) == {"created": 2, "unchanged": 2}


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(("ending", "status"), [("disconnects", 400), ("stalls", 408)])
async def test_interrupted_upload_keeps_the_batches_before_it(
    make_settings: MakeSettings, ending: str, status: int
) -> None:
    app = create_app(make_settings(body_timeout=2 if ending == "stalls" else 20))
    lines = [HEADER.encode(), b"A,Cup,1,1\nB,Cup,1,1\nC,Cup,1,1\n"]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if lines:
            return {"type": "http.request", "body": lines.pop(0), "more_body": True}
        await until_stored(client, 2)
        if ending == "stalls":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def record(message: Any) -> None:
        sent.append(message)

    async with running(app) as client:
        headers = [(b"content-type", b"text/csv"), (b"authorization", f"Bearer {ADA}".encode())]
        scope = {"type": "http", "method": "POST", "path": "/products/import", "query_string": b"", "headers": headers}
        await app({**scope, "raw_path": b"/products/import", "scheme": "http", "state": {}}, receive, record)
        assert sent[0]["status"] == status
        assert b"Stored so far, up to line 3: 2 created" in sent[1]["body"]
        assert [each["sku"] for each in await catalogue(client)] == ["A", "B"]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("skus", ["with_skus", "without_skus"])
async def test_concurrent_imports_of_a_file_create_no_duplicates(
    make_settings: MakeSettings, database: Engine, skus: str
) -> None:
    lines = [f"{'S' + str(number) if skus == 'with_skus' else ''},Cup {number},1,1\n" for number in range(40)]
    # One file is reversed, so that the imports meet in uncommitted batches.
    files = [HEADER + "".join(lines), HEADER + "".join(reversed(lines))]
    async with AsyncExitStack() as stack:  # An account can have one import in each process.
        clients = [await stack.enter_async_context(running(create_app(make_settings()))) for _ in range(4)]
        reports = await asyncio.gather(*(run_import(each, file) for each, file in zip(clients, files * 2, strict=True)))
    assert sum(report.get("created", 0) for report in reports) == 40
    assert sum(report.get("unchanged", 0) for report in reports) == 120
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*), count(DISTINCT name) FROM products")).one() == (40, 40)
        assert connection.execute(text("SELECT count(*) FROM changes")).scalar_one() == 40


@pytest.mark.postgresql
async def test_product_created_concurrently_is_changed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an admin: those of the same account without this role create products one after another."""
    loop = asyncio.get_running_loop()
    create_many = ProductRepository.create_many
    calls = []

    def create_after_conflict(repository: ProductRepository, products: Any, *arguments: Any) -> Any:
        calls.append(len(products))
        if len(calls) == 1:
            asyncio.run_coroutine_threadsafe(create(client, ROOT, sku="A", price="5"), loop).result(10)
        return create_many(repository, products, *arguments)

    monkeypatch.setattr(ProductRepository, "create_many", create_after_conflict)
    assert await run_import(client, HEADER + "A,Lamp,20,3\nB,Cup,1,1\n", token=ROOT) == {"created": 1, "updated": 1}
    # One attempt before the concurrent creation, and one after it.
    assert calls == [2, 1]
    assert [(each["sku"], each["price"]) for each in await catalogue(client)] == [("A", "20.00"), ("B", "1.00")]
