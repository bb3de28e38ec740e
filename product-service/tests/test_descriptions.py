"""Long descriptions, and descriptions with HTML."""

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError

from product_service.domain.fields import LARGEST_DESCRIPTION_LENGTH, MAX_DESCRIPTION_LENGTH
from product_service.main import create_app
from testkit.applications import running
from testkit.products import DRAFT, MakeSettings, bearer, create, migrations_of, product, store
from testkit.user_service_stub import ADA

HTML = '<p class="a">Caf\u00e9 &amp; <b>tea</b>,\r\n<!-- 5 < 6 -->\t<script>alert("\u2028")</script> <br/></p>'


async def import_line(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    headers = {**bearer(ADA), "Content-Type": "application/x-ndjson"}
    answer = await client.post("/products/import", content=json.dumps(fields), headers=headers)
    report: dict[str, Any] = answer.json()
    return report


async def test_html_is_text(client: httpx.AsyncClient) -> None:
    created = await create(client, description=HTML, sku="A")
    assert created["description"] == HTML
    assert (await client.get(f"/products/{created['id']}")).json()["description"] == HTML
    exported = await client.get("/products/export?format=csv&profile=spreadsheet", headers=bearer(ADA))
    headers = {**bearer(ADA), "Content-Type": "text/csv"}
    report = (await client.post("/products/import", content=exported.content, headers=headers)).json()
    assert report["unchanged"] == 1


@pytest.mark.parametrize("character", ["x", "\U0001f4a1", '"'])
async def test_description_has_up_to_ten_thousand_characters(client: httpx.AsyncClient, character: str) -> None:
    longest = character * MAX_DESCRIPTION_LENGTH
    created = await create(client, sku="A", description=longest)
    path = f"/products/{created['id']}"
    assert (await client.get(path)).json()["description"] == longest
    for name, media_type in (("csv", "text/csv"), ("ndjson", "application/x-ndjson")):
        exported = await client.get(f"/products/export?format={name}", headers=bearer(ADA))
        headers = {**bearer(ADA), "Content-Type": media_type}
        answer = await client.post("/products/import", content=exported.content, headers=headers)
        assert answer.json()["unchanged"] == 1
    # JSON with escapes is several times as long.
    assert (await import_line(client, sku="A", description=longest))["unchanged"] == 1

    problem = {
        "pointer": "/description",
        "detail": f"Must have at most {MAX_DESCRIPTION_LENGTH} characters, not {MAX_DESCRIPTION_LENGTH + 1}",
    }
    for answer in (
        await client.post("/products", json={**DRAFT, "description": longest + "x"}, headers=bearer(ADA)),
        await client.patch(path, json={"description": longest + "x"}, headers=bearer(ADA)),
    ):
        assert (answer.status_code, answer.json()["errors"]) == (422, [problem])
    for sku in "AB":
        report = await import_line(client, **{**DRAFT, "sku": sku, "description": longest + "x"})
        assert report["errors"] == [{"line": 1, "detail": f"description: {problem['detail']}"}]


async def test_maximum_length_is_a_setting(make_settings: MakeSettings) -> None:
    longest = "x" * LARGEST_DESCRIPTION_LENGTH
    async with running(create_app(make_settings(max_description_length=LARGEST_DESCRIPTION_LENGTH))) as client:
        created = await create(client, description=longest)
        answer = await client.post("/products", json={**DRAFT, "description": longest + "x"}, headers=bearer(ADA))
        assert answer.status_code == 422
    async with running(create_app(make_settings(max_description_length=5))) as client:
        answer = await client.post("/products", json={**DRAFT, "description": "123456"}, headers=bearer(ADA))
        assert answer.status_code == 422
        # A longer description that exists may remain.
        change = {**created, "quantity": 9}
        answer = await client.put(f"/products/{created['id']}", json=change, headers=bearer(ADA))
        assert (answer.status_code, answer.json()["description"]) == (200, longest)


@pytest.mark.postgresql
def test_downgrade_does_not_cut_descriptions(database_url: str, database: Engine) -> None:
    migrations = migrations_of(database_url)
    store(database, [product(description="x" * 1_001)])
    with pytest.raises(DataError):
        migrations.downgrade("product_service_0005")
    with database.connect() as connection:
        assert connection.execute(text("SELECT length(description) FROM products")).scalar_one() == 1_001
