"""Files for spreadsheets: what a spreadsheet would change is protected, and the import takes it back exactly."""

import csv
import io

import httpx
import pytest

from product_service.files.formats import FORMATS
from product_service.files.options import ReadOptions, WriteOptions
from product_service.schemas import ProductLine
from testkit.products import bearer, create, product
from testkit.user_service_stub import ADA

CHANGED = [
    *("00123", "0", "4006381333931"),
    *("8.71E+12", "1E5", "12e-3", "1.50", "1,000", "50%", "$5", "(5)", "1 000"),
    *("3/4", "1-2", "2026-01-31", "31.12.2026", "12:30", "5 PM"),
    *("MAR1", "Sept 2", "1-Mar", "5 May 2026", "June 7, 2026", "dec-24"),
    *("TRUE", "false"),
]
UNCHANGED = ["5", "123", "12345678901", "KB-87", "A00123", "'47 Brand", "Mayor", "true blue", "12 cups", "3.5 mm", "E5"]


def cell(text: str, *, spreadsheet: bool) -> str:
    written = FORMATS["csv"].serialize([product(description=text)], WriteOptions(spreadsheet=spreadsheet))
    [row] = csv.reader(io.StringIO(written, newline=""))
    return row[1]


def imported(cell: str) -> str | None:
    reader = FORMATS["csv"].reader(ReadOptions())
    [record] = reader.feed(f"description\n{cell}\n".encode())
    assert isinstance(record.content, ProductLine)
    return record.content.description


@pytest.mark.parametrize("text", CHANGED[:1] + CHANGED[2:])
def test_texts_that_a_spreadsheet_would_change_are_protected(text: str) -> None:
    assert cell(text, spreadsheet=True) == f"'{text}"
    assert cell(text, spreadsheet=False) == (f"'{text}" if text == "8.71E+12" else text)
    assert imported(f'"\'{text}"') == imported(f'"{text}"') == text


@pytest.mark.parametrize("text", UNCHANGED)
def test_other_texts_are_written_as_they_are(text: str) -> None:
    expected = f"'{text}" if text.startswith("'") else text
    assert cell(text, spreadsheet=True) == cell(text, spreadsheet=False) == expected
    assert imported(expected) == imported(text) == text


def test_prices_and_quantities_stay_numbers() -> None:
    written = FORMATS["csv"].serialize([product(sku="00123")], WriteOptions(spreadsheet=True, include_id=True))
    assert written == ",Lamp,,19.99,USD,3,'00123,\r\n"


async def test_export_for_a_spreadsheet_is_imported_unchanged(client: httpx.AsyncClient) -> None:
    for sku in CHANGED:
        await create(client, sku=sku, name=sku, category=sku, description="Größe")
    exported = await client.get("/products/export?format=csv&profile=spreadsheet", headers=bearer(ADA))
    assert exported.content.startswith("\ufeffname,description,price".encode())
    [_, first, *_] = csv.reader(io.StringIO(exported.text, newline=""))
    assert first == ["'00123", "Größe", "19.99", "USD", "3", "'00123", "'00123"]
    headers = {**bearer(ADA), "Content-Type": "text/csv"}
    answer = await client.post("/products/import", content=exported.content, headers=headers)
    assert (answer.json()["unchanged"], answer.json()["errors"]) == (len(CHANGED), [])
    plain = await client.get("/products/export?format=csv", headers=bearer(ADA))
    answer = await client.post("/products/import", content=plain.content, headers=headers)
    assert (answer.json()["unchanged"], answer.json()["errors"]) == (len(CHANGED), [])


async def test_byte_order_mark_is_an_option(client: httpx.AsyncClient) -> None:
    for query, expected in (("", False), ("&bom=true", True), ("&profile=spreadsheet&bom=false", False)):
        exported = await client.get(f"/products/export?format=csv{query}", headers=bearer(ADA))
        assert exported.content.startswith(b"\xef\xbb\xbf") == expected
    for query in ("bom=true", "profile=spreadsheet"):
        answer = await client.get(f"/products/export?format=ndjson&{query}", headers=bearer(ADA))
        assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (422, "Only for format=csv")
    answer = await client.get("/products/export?format=ndjson&bom=false", headers=bearer(ADA))
    assert answer.status_code == 200


async def test_rounded_skus_are_imported_if_allowed(client: httpx.AsyncClient) -> None:
    content = "sku,name,price,quantity\n8.71E+12,Lamp,1,1\n"
    headers = {**bearer(ADA), "Content-Type": "text/csv"}
    query = {"allow_scientific_sku": "true"}
    answer = await client.post("/products/import", content=content, headers=headers, params=query)
    assert answer.json()["created"] == 1
    # A program that writes NDJSON does not round.
    answer = await client.post(
        "/products/import",
        content='{"sku": "8.71E+12", "quantity": 2}',
        headers={**headers, "Content-Type": "application/x-ndjson"},
    )
    assert answer.json()["updated"] == 1
