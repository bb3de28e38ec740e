"""The number of products and of writes that an account may have."""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from product_service.commands import COMMANDS
from product_service.main import create_app
from product_service.services import import_export
from testkit.applications import running
from testkit.products import DRAFT, MakeSettings, bearer, create
from testkit.user_service_stub import ADA, BOB, ROOT

EXCEEDED = "An account can have at most 3 products. Delete some before you create others."


@asynccontextmanager
async def limited(make_settings: MakeSettings, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    async with running(create_app(make_settings(**changes))) as client:
        yield client


async def post(client: httpx.AsyncClient, token: str = ADA, **changes: Any) -> httpx.Response:
    return await client.post("/products", json={**DRAFT, **changes}, headers=bearer(token))


async def send(client: httpx.AsyncClient, lines: list[str], token: str = ADA, **query: str) -> httpx.Response:
    content = "\n".join(["sku,name,price,quantity", *lines]).encode()
    headers = {**bearer(token), "Content-Type": "text/csv"}
    return await client.post("/products/import", content=content, headers=headers, params=query)


async def owners(client: httpx.AsyncClient) -> list[int]:
    return [each["owner_id"] for each in (await client.get("/products?limit=100")).json()]


async def test_account_cannot_create_more_products_than_its_quota(make_settings: MakeSettings) -> None:
    async with limited(make_settings, max_products_per_account=3) as client:
        for sku in ("A", "B", "C"):
            await create(client, sku=sku)
        answer = await client.post("/products", json=DRAFT, headers={**bearer(ADA), "Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["code"]) == (403, "product-quota-exceeded")
        assert answer.json()["detail"] == EXCEEDED
        # Other errors come first or after as usual, and other accounts and admins are not concerned.
        assert (await post(client, currency="usd")).status_code == 422
        assert (await post(client, BOB)).status_code == 201
        assert [(await post(client, ROOT)).status_code for _ in range(4)] == [201] * 4
        # Changes are still possible. A deletion makes room, and the idempotency key was not used up.
        assert (await client.patch("/products/1", json={"name": "Desk"}, headers=bearer(ADA))).status_code == 200
        assert (await client.delete("/products/2", headers=bearer(ADA))).status_code == 204
        answer = await client.post("/products", json=DRAFT, headers={**bearer(ADA), "Idempotency-Key": "k"})
        assert answer.status_code == 201
        # A repeated request creates nothing, so that it gets the same response.
        again = await client.post("/products", json=DRAFT, headers={**bearer(ADA), "Idempotency-Key": "k"})
        assert (again.status_code, again.json()) == (201, answer.json())


async def test_import_refuses_the_lines_beyond_the_quota(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_export, "BATCH_SIZE", 2)
    async with limited(make_settings, max_products_per_account=3) as client:
        await create(client, sku="A")
        lines = ["B,Lamp,1,1", "A,,,9", "C,Lamp,1,1", ",Lamp,1,1", "D,Lamp,1,1", "A,,,10", "B,Cup,,"]
        refused = [{"line": 5, "detail": EXCEEDED}, {"line": 6, "detail": EXCEEDED}]
        for dry_run in ("true", "false"):
            report = (await send(client, lines, allow_repeated_sku="true", dry_run=dry_run)).json()
            assert (report["created"], report["updated"], report["errors"]) == (2, 3, refused), dry_run
        assert await owners(client) == [1, 1, 1]
        # Everything that has been stored is found again.
        report = (await send(client, lines, allow_repeated_sku="true")).json()
        assert (report["created"], report["errors"]) == (0, refused)
        assert (await send(client, lines[4:5], ROOT)).json()["created"] == 1


async def test_concurrent_requests_do_not_exceed_the_quota(make_settings: MakeSettings) -> None:
    limit = {"max_products_per_account": 3}
    async with (
        limited(make_settings, **limit) as one,
        limited(make_settings, **limit) as two,
        limited(make_settings, **limit) as three,
    ):
        imports = [send(each, [f"{n}-{line},Cup,1,1" for line in range(3)]) for n, each in enumerate((one, two, three))]
        creations = [post(each, sku=f"C-{n}") for n, each in enumerate((one, two) * 3)]
        answers = await asyncio.gather(*imports, *creations)
        assert await owners(one) == [1, 1, 1]
        created = sum(answer.json()["created"] for answer in answers[:3])
        assert sorted(answer.status_code for answer in answers[3:]) == [201] * (3 - created) + [403] * (3 + created)
        for answer in answers[:3]:
            assert answer.json()["created"] + answer.json()["refused"] == 3


@pytest.mark.sqlite
def test_import_on_the_command_line_has_no_quota(
    tmp_path: Path, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "products.csv"
    file.write_text("name,price,quantity\nLamp,1,1\nCup,1,1\n")
    parser = argparse.ArgumentParser()
    chosen = COMMANDS[0]
    chosen.arguments(parser)
    chosen.run(make_settings(max_products_per_account=1), parser.parse_args([str(file)]))
    assert "2 created, 0 updated, 0 unchanged, 0 refused." in capsys.readouterr().out


@pytest.mark.sqlite
async def test_writes_of_an_account_are_limited(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1_000_000_000.0
    monkeypatch.setattr(time, "time", lambda: clock)
    async with limited(make_settings, rate_limit_writes="4/minute") as client:
        # Rejected requests count, too, and every kind of write.
        statuses = [
            (await post(client)).status_code,
            (await client.patch("/products/99", json={}, headers=bearer(ADA))).status_code,
            (await send(client, ["A,Lamp,1,1"])).status_code,
            (await client.post("/products/1/stock", json={"delta": 0}, headers=bearer(ADA))).status_code,
        ]
        assert statuses == [201, 404, 200, 422]
        clock += 13
        for answer in (
            await post(client),
            await client.put("/products/1", json={"quantity": 9}, headers=bearer(ADA)),
            await client.patch("/products/1", json={"quantity": 9}, headers=bearer(ADA)),
            await client.delete("/products/1", headers=bearer(ADA)),
            await client.post("/products/1/stock", json={"delta": 1, "reason": "found"}, headers=bearer(ADA)),
            await send(client, ["B,Lamp,1,1"]),
        ):
            assert (answer.status_code, answer.json()["code"]) == (429, "too-many-writes")
            assert answer.headers["retry-after"] == "47"
        # Reads, other accounts and admins are not concerned, and requests without a token are not counted.
        assert (await client.get("/products/1", headers=bearer(ADA))).json()["quantity"] == 3
        assert (await client.get("/products/export?format=csv", headers=bearer(ADA))).status_code == 200
        assert (await post(client, BOB)).status_code == 201
        assert [(await post(client, ROOT)).status_code for _ in range(6)] == [201] * 6
        assert (await client.post("/products", json=DRAFT)).status_code == 401
        clock += 46.9
        assert (await post(client)).headers["retry-after"] == "1"
        clock += 0.2
        assert (await post(client)).status_code == 201


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("path", "media_type"), [("/products", "application/json"), ("/products/import", "application/x-ndjson")]
)
async def test_body_beyond_the_limit_of_writes_is_not_read(
    make_settings: MakeSettings, path: str, media_type: str
) -> None:
    pieces_read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal pieces_read
        for _ in range(3):
            pieces_read += 1
            yield b"{"

    async with limited(make_settings, rate_limit_writes="1/minute") as client:
        headers = {**bearer(ADA), "Content-Type": media_type}
        # A body that can't be decoded counts, too.
        answer = await client.post("/products", content=b"{", headers={**headers, "Content-Type": "application/json"})
        assert answer.status_code == 400
        assert (await client.post(path, content=body(), headers=headers)).status_code == 429
        assert pieces_read == 0
        assert (await client.post(path, content=body())).status_code == 401


@pytest.mark.sqlite
async def test_writes_can_be_unlimited(make_settings: MakeSettings) -> None:
    async with limited(make_settings, rate_limit_writes="off") as client:
        assert {(await post(client, name=7)).status_code for _ in range(30)} == {422}
    with pytest.raises(ValueError, match="must be like 10/minute"):
        make_settings(rate_limit_writes="often")


def test_unlimited_writes_are_a_risk(make_settings: MakeSettings) -> None:
    risks = set(make_settings(rate_limit_writes="off").risky()) - set(make_settings().risky())
    assert risks == {"RATE_LIMIT_WRITES is off. An account can make the service busy for all others"}
