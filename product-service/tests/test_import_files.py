"""Files of other programs, in miniature: what the import makes of each, on both databases."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

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

    def __str__(self) -> str:
        return self.name


CASES = [
    Case(
        "caps.csv",
        [
            {"sku": "CAP-1", "name": "'47 Brand Cap", "description": "'n' Roll", "category": "'47"},
            {"sku": "CAP-2", "description": "'tis made by hand"},
        ],
        refused={4: "quantity: Input should be greater than or equal to 0"},
    ),
]


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
