"""What one client can make the import do: limits of files, one import per account, and the end of a connection."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from starlette.requests import Request

from product_service.api.read_ahead import ReadAhead
from product_service.files.ndjson import NdjsonReader
from product_service.main import create_app
from product_service.services import import_export
from product_service.services.upserts import Upserts
from testkit.applications import running
from testkit.products import MakeSettings, bearer, create
from testkit.user_service_stub import ADA, BOB

CSV, NDJSON = "text/csv", "application/x-ndjson"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export, "BATCH_SIZE", 2)
    monkeypatch.setattr(import_export, "CHUNK_SIZE", 20)


def lines_of(*products: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(product)}\n" for product in products)


def cup(sku: str) -> dict[str, Any]:
    return {"sku": sku, "name": "Cup", "price": "5", "quantity": 1}


async def send(
    client: httpx.AsyncClient, content: Any, media_type: str = NDJSON, token: str = ADA, **query: str
) -> httpx.Response:
    headers = {**bearer(token), "Content-Type": media_type}
    return await client.post("/products/import", content=content, headers=headers, params=query)


async def skus(client: httpx.AsyncClient) -> list[str]:
    return [each["sku"] for each in (await client.get("/products?limit=100")).json()]


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.json()["code"], answer.json()["errors"][0]["detail"]


async def test_import_stops_at_too_many_refused_lines(make_settings: MakeSettings) -> None:
    refused = [{"sku": "x"}, {}, cup("price") | {"price": "x"}]
    async with running(create_app(make_settings(max_import_refused_lines=3))) as client:
        report = (await send(client, lines_of(cup("A"), *refused, cup("B")))).json()
        assert (report["created"], report["refused"]) == (2, 3)

        answer = await send(client, lines_of(cup("C"), cup("D"), *refused, {}, *map(cup, "EFGHIJ")))
        detail = "More than 3 lines were refused; correct the file"
        assert problem(answer) == (422, "import-limit-exceeded", detail)
        assert answer.json()["detail"].endswith(
            " Stored so far, up to line 6: 2 created, 0 updated, 0 unchanged, 4 refused."
        )
        details = [each["detail"] for each in answer.json()["errors"]]
        assert details[1] == "line 3: name: This is required; price: This is required; quantity: This is required"
        assert [detail.partition(":")[0] for detail in details[1:]] == ["line 3", "line 4", "line 5", "line 6"]
        assert await skus(client) == ["A", "B", "C", "D"]

        answer = await send(client, lines_of(*refused, {}), dry_run="true")
        assert problem(answer) == (422, "import-limit-exceeded", detail)
        assert "Stored" not in answer.json()["detail"]


async def test_import_stops_at_too_many_lines(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(max_import_lines=4))) as client:
        assert (await send(client, lines_of(*map(cup, "ABCD")))).json()["created"] == 4
        for file in (lines_of(*map(cup, "EFGHI")), '{"sku"' + "\n" * 5):
            answer = await send(client, file)
            assert problem(answer)[1:] == (
                "import-limit-exceeded",
                "The file has more than 4 lines; split it into several files",
            )
        assert await skus(client) == list("ABCDEFGH")


@pytest.mark.parametrize(
    ("media_type", "start", "blank"),
    [
        (CSV, "sku,name,price,quantity\nA,Cup,1,1\n", ["\n", "\r\n", ",,,\r\n", ",,,,,\n"]),
        (CSV, "", ["\n", "\r\n", "  \n", "\r\n"]),
        (NDJSON, lines_of(cup("A")), ["\n", "  \n", "\r\n", "\t\n"]),
    ],
)
async def test_import_stops_at_too_many_blank_lines(
    make_settings: MakeSettings, media_type: str, start: str, blank: list[str]
) -> None:
    end = "sku,name,price,quantity\nB,Cup,1,1\n" if not start else ""
    async with running(create_app(make_settings(max_import_blank_lines=3))) as client:
        answer = await send(client, start + "".join(blank[:3]) + end, media_type)
        assert answer.json()["created"] == 1
        answer = await send(client, start + "".join(blank) + end, media_type)
        detail = "The file has more than 3 blank lines; delete them"
        assert problem(answer) == (422, "import-limit-exceeded", detail)


@pytest.mark.alone
async def test_lines_that_change_nothing_open_no_transaction(app: FastAPI, client: httpx.AsyncClient) -> None:
    await create(client, BOB, sku="of bob")
    mine = await create(client, sku="mine", currency="JPY", price="5")
    await create(client, sku="other")
    transactions: list[object] = []
    event.listen(app.state.services.database._write_engine, "begin", transactions.append)
    refused = lines_of(
        *({}, {"sku": "unknown"}, {"id": 4711, "name": "Cup"}, {"sku": "of bob", "quantity": 1}),
        *({"name": "Cup"}, {"id": mine["id"], "price": "5.5"}, {"id": mine["id"], "sku": "other"}),
        *(cup("gold") | {"price": "1.001"}, cup("lev") | {"currency": "BGN"}),
        *({"sku": "mine", "name": "Lamp", "price": "5"}, {"id": mine["id"], "sku": "mine"}),
    )
    report = (await send(client, refused, allow_repeated_sku="true")).json()
    assert (report["refused"], report["unchanged"]) == (9, 2)
    assert report["errors"][-1]["detail"] == "currency: BGN has been withdrawn; use a current currency"
    assert (await send(client, lines_of(cup("new")), mode="update")).json()["refused"] == 1
    assert transactions == []
    await send(client, lines_of(cup("new")))
    assert len(transactions) == 1


async def test_lines_may_depend_on_earlier_lines(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_export, "BATCH_SIZE", 500)
    one, other = await create(client, sku="one"), await create(client, sku="other")
    file = lines_of(
        *(cup("new"), {"sku": "new", "quantity": 2}),
        # Two products that exchange their SKUs, the first one with a name in between.
        *({"id": one["id"], "sku": "between"}, {"id": other["id"], "sku": "one"}, {"id": one["id"], "sku": "other"}),
        *({"sku": "one", "quantity": 7}, {"sku": "other", "quantity": 8}, {"sku": "between", "quantity": 9}),
        *({"id": one["id"], "currency": "JPY", "price": "5"}, {"id": one["id"], "currency": "USD"}),
        {"sku": "other", "price": "5.50"},
    )
    report = (await send(client, file, allow_repeated_sku="true")).json()
    assert (report["created"], report["updated"], report["unchanged"], report["refused"]) == (1, 9, 0, 1)
    assert [each["line"] for each in report["errors"]] == [8]
    found = (await client.get("/products")).json()
    assert [(each["sku"], each["quantity"]) for each in found] == [("other", 8), ("one", 7), ("new", 2)]
    assert (found[0]["price"], found[0]["currency"]) == ("5.50", "USD")


async def test_account_has_one_import_at_a_time(client: httpx.AsyncClient) -> None:
    end = asyncio.Event()

    async def file() -> AsyncIterator[bytes]:
        yield lines_of(cup("A"), cup("B"), cup("C")).encode()
        await end.wait()

    first = asyncio.create_task(send(client, file()))
    async with asyncio.timeout(20):
        while not await skus(client):  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(0.01)
    for media_type in (NDJSON, CSV):
        answer = await send(client, "not read", media_type)
        assert (answer.status_code, answer.json()["code"]) == (409, "import-in-progress")
        assert int(answer.headers["retry-after"]) >= 1
    assert (await send(client, lines_of(cup("of bob")), token=BOB)).json()["created"] == 1
    end.set()
    assert (await first).json()["created"] == 3
    # Also after an import that failed.
    assert (await send(client, "nothing", CSV)).status_code == 422
    assert (await send(client, lines_of(cup("D")))).json()["created"] == 1


@pytest.mark.parametrize("sent", ["complete", "incomplete"])
async def test_import_stops_within_a_batch_of_a_disconnect(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    pieces = [lines_of(*(cup(f"{piece}-{line}") for line in range(20))).encode() for piece in range(5)]
    storing = asyncio.Event()
    upsert_many = Upserts.upsert_many

    async def upsert(*arguments: Any, **options: Any) -> Any:
        storing.set()
        return await upsert_many(*arguments, **options)

    async def receive() -> dict[str, Any]:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces) or sent == "incomplete"}
        await storing.wait()
        return {"type": "http.disconnect"}

    monkeypatch.setattr(Upserts, "upsert_many", upsert)
    statuses = []

    async def record(message: Any) -> None:
        statuses.append(message.get("status"))

    headers = [(b"content-type", NDJSON.encode()), (b"authorization", f"Bearer {ADA}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/products/import", "query_string": b"", "headers": headers}
    await app({**scope, "raw_path": b"/products/import", "scheme": "http", "state": {}}, receive, record)
    assert statuses[0] == 400
    # One batch is being stored at that moment, and one more may have begun.
    assert 2 <= len(await skus(client)) <= 4
    assert (await send(client, lines_of(cup("next")))).json()["created"] == 1


async def test_files_are_decoded_in_one_thread_beside_the_event_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()

    def recorded(work: Callable[..., Any]) -> Callable[..., Any]:
        def record(*arguments: Any) -> Any:
            threads.add(threading.current_thread().name)
            return work(*arguments)

        return record

    monkeypatch.setattr(NdjsonReader, "_read_line", recorded(NdjsonReader._read_line))
    for name in ("check", "report"):
        monkeypatch.setattr(import_export._Import, name, recorded(getattr(import_export._Import, name)))
    files = {token: lines_of(*(cup(f"{token}-{number}") for number in range(9)), {}) for token in (ADA, BOB)}
    for answer in await asyncio.gather(*(send(client, file, token=token) for token, file in files.items())):
        assert answer.json()["created"] == 9
    assert threads == {"import_0"}


async def test_next_batch_is_read_while_one_is_stored(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    read_meanwhile: list[int] = []
    read_line, upsert_many = NdjsonReader._read_line, Upserts.upsert_many

    def record(reader: NdjsonReader, line: bytes) -> Any:
        read.append(line)
        return read_line(reader, line)

    async def upsert(*arguments: Any, **options: Any) -> Any:
        async with asyncio.timeout(20):
            while len(read) < min(len(read_meanwhile) * 2 + 4, 6):  # noqa: ASYNC110 - another thread reads
                await asyncio.sleep(0.01)
        read_meanwhile.append(len(read))
        return await upsert_many(*arguments, **options)

    monkeypatch.setattr(NdjsonReader, "_read_line", record)
    monkeypatch.setattr(Upserts, "upsert_many", upsert)
    assert (await send(client, lines_of(*map(cup, "ABCDEF")))).json()["created"] == 6
    assert read_meanwhile == [4, 6, 6]


def requests_of(pieces: list[int], received: list[int]) -> Request:
    """A request with pieces of these sizes; `received` gets those that were read. Its client stays connected."""

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.Event().wait()
        received.append(pieces.pop(0))
        return {"type": "http.request", "body": b"x" * received[-1], "more_body": bool(pieces)}

    return Request({"type": "http", "headers": []}, receive)


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_bodies_are_read_ahead_up_to_a_common_limit() -> None:
    ahead = ReadAhead(max_kept=100)
    first, second = [60, 60, 60, 60], [10, 10]
    read_of_first: list[int] = []
    read_of_second: list[int] = []
    async with ahead.read(requests_of(first, read_of_first), 1_000) as body:
        await settled()
        # The third piece has been received, and is kept as soon as there is room.
        assert (read_of_first, ahead.kept) == ([60, 60, 60], 120)
        async with ahead.read(requests_of(second, read_of_second), 1_000) as other:
            await settled()
            # Each body may have a piece.
            assert (read_of_second, ahead.kept) == ([10, 10], 130)
            assert [len(piece) async for piece in other] == [10, 10]
        assert len(await anext(body)) == 60
        await settled()
        assert (read_of_first, ahead.kept) == ([60, 60, 60, 60], 120)
        assert [len(piece) async for piece in body] == [60, 60, 60]
        body.check()
    async with ahead.read(requests_of([60, 60], []), 1_000):
        await settled()
    assert ahead.kept == 0
