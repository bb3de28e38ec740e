"""Files of other programs, in miniature: what the import makes of each, on both databases."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from product_service.files.csv import SCIENTIFIC_SKU
from product_service.services.import_export import REPEATED
from testkit.products import bearer
from testkit.user_service_stub import ADA

FILES = Path(__file__).parent / "files"
CSV = "text/csv"


@dataclass(frozen=True)
class Case:
    """A file, how it is sent, and the products that it makes."""

    name: str
    products: list[dict[str, Any]]
    """By these fields, in the order of the file."""
    refused: dict[int, str] = field(default_factory=dict)
    """The reasons by line."""
    media_type: str = CSV
    query: dict[str, str] = field(default_factory=dict)
    file: dict[str, Any] = field(default_factory=lambda: {"delimiter": ",", "decimal": "."})
    """What the response tells about the file; the number of ignored columns."""

    def __str__(self) -> str:
        return self.name


CASES = [
    Case(
        "caps.csv",
        [
            {"sku": "CAP-1", "name": "'47 Brand Cap", "description": "'n' Roll", "category": "'47"},
            {"sku": "CAP-2", "description": "'tis made by hand"},
        ],
        refused={4: "quantity: Must be at least 0"},
    ),
    Case(
        "german-spreadsheet.csv",
        [
            {"sku": "TG-1", "name": 'Teekanne "Grün"', "price": "1299.00", "category": "Küche"},
            {"sku": "TG-2", "name": "Becher; blau", "price": "12.50", "category": "Küche"},
        ],
        refused={5: "price: USD has 2 decimals"},
        media_type="application/vnd.ms-excel",
        file={"delimiter": ";", "decimal": ","},
    ),
    Case(
        "unicode-text.txt",
        [
            {"sku": "Ü-1", "name": "Épinglette 💡", "price": "3.50", "quantity": 7},
            {"sku": "Ü-2", "name": "Carnet, ligné", "price": "4.00", "quantity": 2},
        ],
        media_type="text/csv; charset=UTF-16",
        file={"delimiter": "tab", "decimal": ","},
    ),
    Case(
        "shop-export.csv",
        [
            {
                "sku": "MUG-1",
                "name": "Stoneware mug",
                "price": "14.50",
                "quantity": 12,
                "description": "<p>Holds <b>0.3&nbsp;l</b>, &amp; dishwasher safe.</p>",
            },
            {"sku": "MUG-2", "name": "Stoneware mug, large", "price": "18.00", "quantity": 4, "description": None},
        ],
        query={
            "unknown_columns": "ignore",
            "columns": "variant sku:sku,Title:name,Variant Price:price,Variant  Inventory Qty:quantity,"
            "Body (HTML):description",
        },
        file={"delimiter": ",", "decimal": ".", "ignored_columns": 40},
    ),
    Case(
        "shop-export.jsonl",
        [{"sku": "MUG-1", "name": "Stoneware mug", "price": "14.50", "quantity": 12}],
        media_type="application/x-ndjson",
        query={"unknown_columns": "ignore", "columns": "Variant SKU:sku,Title:name"},
        file={"delimiter": None, "decimal": None, "ignored_columns": 1},
    ),
    Case(
        "rounded-skus.csv",
        [{"sku": "8.71E+12", "name": "Plate"}, {"sku": "1E5", "name": "Jug"}],
        refused=dict.fromkeys((2, 3, 4), f"sku: {SCIENTIFIC_SKU}"),
    ),
    Case(
        "repeated-skus.csv",
        [{"sku": "A-1", "price": "19.90"}, {"sku": "A-2", "name": "Mug"}],
        refused={4: f"sku: {REPEATED}"},
    ),
]


FORM_FILE = """--the boundary\r
Content-Disposition: form-data; name="file"; filename="{name}"\r
Content-Type: {media_type}\r
\r
"""
END = b"\r\n--the boundary--\r\n"
FORM = 'multipart/form-data; boundary="the boundary"'


def form(name: str, media_type: str, content: bytes) -> bytes:
    return FORM_FILE.format(name=name, media_type=media_type).encode() + content + END


async def send(client: httpx.AsyncClient, content: bytes, media_type: str = CSV, **query: str) -> httpx.Response:
    headers = {**bearer(ADA), "Content-Type": media_type}
    return await client.post("/products/import", content=content, headers=headers, params=query)


async def products(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/products?limit=100")).json()
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_file_of_another_program_is_understood(client: httpx.AsyncClient, case: Case) -> None:
    content = (FILES / case.name).read_bytes()
    answer = await send(client, content, case.media_type, **case.query)
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert {each["line"]: each["detail"] for each in report["errors"]} == case.refused
    assert (report["created"], report["refused"]) == (len(case.products), len(case.refused))
    assert {**report["file"], "ignored_columns": len(report["file"]["ignored_columns"])} == {
        "ignored_columns": 0,
        **case.file,
    }
    stored = await products(client)
    assert [{name: each[name] for name in wanted} for each, wanted in zip(stored, case.products, strict=True)] == (
        case.products
    )
    # What was imported survives an export and another import.
    again = await send(client, content, case.media_type, **case.query)
    assert (again.json()["unchanged"], again.json()["created"]) == (len(case.products), 0)
    for name, media_type in (("csv", CSV), ("ndjson", "application/x-ndjson")):
        exported = await client.get(f"/products/export?format={name}", headers=bearer(ADA))
        report = (await send(client, exported.content, media_type)).json()
        assert (report["unchanged"], report["refused"]) == (len(case.products), 0), json.dumps(report)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("caps.csv", "text/csv"),
        ("Caps", "application/vnd.ms-excel"),
        ("CAPS.CSV", "application/octet-stream"),
        ("caps.txt", "text/plain"),
    ],
)
async def test_file_in_a_form_is_imported(client: httpx.AsyncClient, name: str, media_type: str) -> None:
    content = (FILES / "caps.csv").read_bytes()
    answer = await send(client, form(name, media_type, content), FORM)
    assert (answer.status_code, answer.json()["created"], answer.json()["refused"]) == (200, 2, 1)
    # As a client library builds it.
    files = {"file": ("caps.ndjson", b'{"sku": "CAP-1", "quantity": 9}')}
    answer = await client.post("/products/import", files=files, headers=bearer(ADA))
    assert answer.json()["updated"] == 1


FIELD = b'--the boundary\r\nContent-Disposition: form-data; name="dry_run"\r\n\r\ntrue\r\n'
LINES = b"sku,name,price,quantity\nA,Lamp,1,1\n"


@pytest.mark.parametrize(
    ("media_type", "body", "status", "reason"),
    [
        (FORM, FIELD + END[2:], 422, "'dry_run' is not a file: with curl, -F file=@NAME sends one."),
        (
            FORM,
            FIELD + form("a.csv", "text/csv", LINES),
            422,
            "Options are query parameters. 'dry_run' is not a file: ",
        ),
        (
            FORM,
            form("a.csv", "text/csv", LINES)[: -len(END)] + b"\r\n" + FIELD + END[2:],
            422,
            "It also has 'dry_run'.",
        ),
        (FORM, form("", "application/octet-stream", b""), 415, "CSV or NDJSON"),
        (FORM, form("a.xlsx", "application/zip", b"PK"), 415, "CSV or NDJSON"),
        (FORM, form("a.csv", "text/csv; charset=latin1", b""), 415, "encoded in UTF-8"),
        (FORM, form("a.csv", "text/csv", LINES)[: -len(END)], 400, "The form is malformed."),
        (FORM, b"sku\nA\n", 400, "The form is malformed."),
        (FORM, END[2:], 422, "must contain one file"),
        ("multipart/form-data", form("a.csv", "text/csv", LINES), 400, "no boundary"),
        (CSV, b"PK\x03\x04\x14\0\n", 422, "save it as CSV"),
        ("application/zip", b"", 415, "multipart/form-data"),
    ],
)
async def test_form_without_a_single_file_is_rejected(
    client: httpx.AsyncClient, media_type: str, body: bytes, status: int, reason: str
) -> None:
    answer = await send(client, body, media_type)
    problem = answer.json()
    assert answer.status_code == status, problem
    assert reason in (problem["errors"][0]["detail"] if status == 422 else problem["detail"])


async def test_all_unknown_columns_are_reported_at_once(client: httpx.AsyncClient) -> None:
    content = (FILES / "shop-export.csv").read_bytes()
    answer = await send(client, content, columns="Title:name,Colour:category,Vendor:sku,SEO Title:sku")
    assert answer.status_code == 422
    unknown, twice, missing = (each["detail"] for each in answer.json()["errors"])
    header = content.decode().partition("\n")[0].split(",")
    assert [name for name in header if f"'{name}'" not in unknown] == ["Title", "Vendor", "SEO Title"]
    assert "unknown_columns=ignore" in unknown
    assert twice == "These columns contain the same field: 'Vendor', 'SEO Title'"
    assert missing == "The file does not have these columns: 'Colour'"
    assert await products(client) == []


async def test_invalid_options_are_rejected(client: httpx.AsyncClient) -> None:
    invalid = {"columns": "Title", "unknown_columns": "skip", "delimiter": "x", "decimal": "'"}
    for name, value in invalid.items():
        answer = await send(client, LINES, **{name: value})
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, name)
    for columns in (":name", "Title:", "Title:title", "A:sku,A:name", "a\rb:name"):
        answer = await send(client, LINES, columns=columns)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "columns")
    for columns in ('"Title:name', 'Title:name,"SKU:sku', '"a"b":name,"c:sku'):
        answer = await send(client, LINES, columns=columns)
        detail = "A quotation mark is missing at the end of a name"
        assert answer.json()["errors"] == [{"parameter": "columns", "detail": detail}]
    file = b'"Name: UK, US",sku,price,quantity,5" x\nLamp,%d,1,1,\n'
    for number, columns in enumerate(
        ('"name: uk, us:name"', '"Name: UK, US":name', '"name: uk, us":name,5" x:category')
    ):
        answer = await send(client, file % number, columns=columns, unknown_columns="ignore")
        assert answer.json()["created"] == 1


async def test_options_of_csv_are_refused_for_ndjson(client: httpx.AsyncClient) -> None:
    line = b'{"sku": "A", "name": "Lamp", "price": 1, "quantity": 1}'
    options = {"delimiter": ",", "decimal": ".", "allow_scientific_sku": "true"}
    expected = [{"parameter": name, "detail": f"{name} is only for CSV"} for name in options]
    for content, media_type in (
        (line, "application/x-ndjson"),
        (form("a.ndjson", "application/octet-stream", line), FORM),
    ):
        answer = await send(client, content, media_type, **options)
        assert (answer.status_code, answer.json().get("errors")) == (422, expected)
    assert await products(client) == []
    answer = await send(client, line, "application/x-ndjson", allow_scientific_sku="false", mode="upsert")
    assert answer.json()["created"] == 1


async def test_field_in_two_columns_is_explained(client: httpx.AsyncClient) -> None:
    content = b"Artikel, SKU ,name,price,quantity,Note\nA,B,Lamp,1,1,x\n"
    answer = await send(client, content, columns="Artikel:sku")
    unknown, conflict = (each["detail"] for each in answer.json()["errors"])
    assert unknown.startswith("Unknown columns: 'Note'. Skip them")
    assert conflict == (
        "columns maps 'Artikel' to sku, so 'SKU' has no field. Map only one of them, or skip the other with "
        "unknown_columns=ignore"
    )
    for name, line in (
        ("text/csv", content),
        ("application/x-ndjson", b'{"Artikel": "A", "sku": "B", "name": "Lamp", "price": 1, "quantity": 1}'),
    ):
        answer = await send(client, line, name, columns="Artikel:sku", unknown_columns="ignore")
        assert (answer.json()["refused"], [each["sku"] for each in await products(client)]) == (0, ["A"])
    for line in (b'{"sku": "B", "Artikel": "A"}', b'{"Artikel": "A", "sku": "B"}', b'{"sku": "B"}'):
        [error] = (await send(client, line, "application/x-ndjson", columns="Artikel:sku")).json()["errors"]
        assert error["detail"].startswith("sku: columns maps 'Artikel' to sku, so 'sku' has no field. ")
