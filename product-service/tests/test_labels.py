"""SKUs and categories: texts that look the same are equal."""

import re
import sys
import unicodedata

import httpx
import pytest

from product_service.domain.labels import is_invisible, normalise, without_invisible
from product_service.schemas import ProductCreate
from testkit.product_list import ids
from testkit.products import DRAFT, bearer, create
from testkit.user_service_stub import ADA

ALIKE = {
    " A-1": "A-1",
    "A-1 ": "A-1",
    "\u00a0A-1\u3000": "A-1",
    "A  1": "A 1",
    "A\u00a01": "A 1",
    "A \u2009\u2028 1": "A 1",
    "cafe\u0301": "café",
    "\u212b": "\u00c5",
    "ﬁ": "ﬁ",
    "a": "a",
    "  ": "",
}


@pytest.mark.parametrize(("text", "expected"), ALIKE.items())
def test_label_is_composed_and_has_single_spaces_between_words(text: str, expected: str) -> None:
    assert normalise(text) == expected


INVISIBLE = [
    *("\u00ad", "\u034f", "\u061c", "\u115f", "\u180e", "\u200b", "\u200c", "\u200d", "\u200e", "\u202e", "\u2060"),
    *("\u2800", "\u3164", "\ufeff", "\uffa0", "\U000e0041"),
]


def test_pattern_in_the_openapi_document_refuses_the_same_characters() -> None:
    schema = ProductCreate.model_json_schema()["properties"]["sku"]["anyOf"][0]
    pattern = re.compile(schema["pattern"].replace("$", r"\Z"))
    for number in range(0x10000):
        character = chr(number)
        refused = is_invisible(character) or unicodedata.category(character) == "Cc"
        assert (pattern.match(character) is None) == refused, f"U+{number:04X}"


def test_migrated_label_is_the_visible_part() -> None:
    for number in range(0, sys.maxunicode, 97):
        visible = without_invisible(f" x{chr(number)}\u200b\u0301 y\ufeff ")
        assert visible is not None
        assert normalise(visible) == visible
    assert without_invisible("e\u200b\u0301") == "é"
    assert without_invisible(" \u200b ") is None


async def test_skus_that_look_the_same_are_the_same(client: httpx.AsyncClient) -> None:
    await create(client, sku="Café 1")
    for sku in ("Café 1 ", " Café 1", "Café  1", "Café\u00a01", "Cafe\u0301 1"):
        answer = await client.post("/products", json={**DRAFT, "sku": sku}, headers=bearer(ADA))
        assert (answer.status_code, answer.json()["code"]) == (409, "sku-taken"), sku
    created = await create(client, sku="\u3000cafe\u0301\u2003\u20031\u00a0", category=" Mugs\u00a0 & more ")
    assert (created["sku"], created["category"]) == ("café 1", "Mugs & more")


async def test_categories_that_look_the_same_are_the_same(client: httpx.AsyncClient) -> None:
    for category in ("Été", " E\u0301te\u0301", "Été\u00a0"):
        await create(client, category=category)
    for category in ("Été", "E\u0301te\u0301 "):
        assert ids(await client.get("/products", params={"category": category})) == [1, 2, 3]


async def test_import_matches_skus_that_look_the_same(client: httpx.AsyncClient) -> None:
    await create(client, sku="A 1")
    await create(client, sku="B 1")
    file = "sku,name,price,quantity\nA\u00a01,Lamp,1,5\n B  1 ,Lamp,1,6\nA 1,Lamp,1,8\nA\u200b1,Lamp,1,7\n"
    headers = bearer(ADA) | {"Content-Type": "text/csv"}
    report = (await client.post("/products/import", content=file.encode(), headers=headers)).json()
    # The third line has the SKU of the first.
    assert (report["created"], report["updated"], [error["line"] for error in report["errors"]]) == (0, 2, [4, 5])
    assert report["errors"][1]["detail"] == "sku: The invisible character U+200B is not allowed"
    assert [each["quantity"] for each in (await client.get("/products")).json()] == [5, 6]


@pytest.mark.parametrize("field", ["sku", "category"])
async def test_invisible_characters_are_refused(client: httpx.AsyncClient, field: str) -> None:
    for character in INVISIBLE:
        draft = {**DRAFT, field: f"A{character}1"}
        answer = await client.post("/products", json=draft, headers=bearer(ADA))
        assert answer.status_code == 422
        detail = f"The invisible character U+{ord(character):04X} is not allowed"
        assert answer.json()["errors"] == [{"pointer": f"/{field}", "detail": detail}]


async def test_blank_sku_and_category_are_null(client: httpx.AsyncClient) -> None:
    for blank in ("", " ", "   ", "\u00a0\u3000"):
        created = await create(client, sku=blank, category=blank)
        assert (created["sku"], created["category"]) == (None, None)
        for sku, category in (("A 1", "mugs"), (blank, blank)):
            change = {"sku": sku, "category": category}
            answer = await client.patch(f"/products/{created['id']}", json=change, headers=bearer(ADA))
            assert (answer.json()["sku"], answer.json()["category"]) == (sku.strip() or None, category.strip() or None)
    assert len(ids(await client.get("/products", params={"category": " \u00a0"}))) == 4


async def test_lengths_are_measured_after_normalising(client: httpx.AsyncClient) -> None:
    created = await create(client, sku=" " + "e\u0301" * 64 + " ", category="e\u0301" * 100)
    assert (created["sku"], created["category"]) == ("é" * 64, "é" * 100)
    # These letters are excluded from composition: each becomes two.
    answer = await client.post("/products", json={**DRAFT, "sku": "\u0958" * 64}, headers=bearer(ADA))
    detail = "Must have at most 64 characters, not 128"
    assert answer.json()["errors"] == [{"pointer": "/sku", "detail": detail}]
