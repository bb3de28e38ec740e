"""Bad input for the product endpoints: the documented error for each, never a 500, and nothing stored."""

import json
from typing import Any

import httpx
import pytest

from testkit.processes import problem
from tests.system.bad_input.drafts import DRAFT, JSON, with_field

# Invalid values of a product's fields, as JSON text.
INVALID_PRODUCT_VALUES = {
    "name": [
        *("null", "1", "true", "1e400", "[]", '["Lamp"]', "{}", '""', '" "', r'"\t"', r'"\u2003\u00a0"'),
        *(r'"a\u0000b"', r'"a\nb"', r'"\u001b[31m"', r'"\u007f"', r'"\u0085"', '"' + "x" * 256 + '"'),
    ],
    "description": ["1", "true", "[]", r'"a\u0000b"', r'"\u001b"', r'"\u009f"', '"' + "x" * 10_001 + '"'],
    "price": [
        *("null", "true", "false", "[]", "{}", "[1]", '""', '"abc"', '"1e2"', '" 1 "', '"1_0"', '"+1"', '"-1"', '"1."'),
        *('"NaN"', '"Infinity"', '"0x1"', '"1,5"', '"١٢"', r'"1\n"', r'"1\u0000"', '"19.99999"', '"12345678901"'),
        *("0", "-1", "0.0", '"0"', '"0.0000"', "-0.01", "1e400", "-1e400", "1e-400", "1e10", "10000000000", "0.00001"),
        *("19.999", '"19.999"', "19.990000000000000000001", "0." + "0" * 300 + "1", "1e999", "1E-999"),
    ],
    "currency": [
        "null",
        "1",
        "true",
        "[]",
        '""',
        '"usd"',
        '"US"',
        '"USDD"',
        '"ZZZ"',
        '"XAU"',
        r'"US\u0000"',
        r'"\uff35\uff33\uff24"',
    ],
    "quantity": [
        *("null", "true", "false", '"3"', '""', "[]", "{}", "1.5", "1.0", "1e3", "-1", "-0.0", "2147483648"),
        *("9223372036854775808", "-9223372036854775809", "1e400", "1e-400", "1" + "0" * 400),
    ],
    "sku": ["1", "true", "[]", r'"a\u200bb"', r'"a\u0000"', r'"a\tb"', r'"\t"', '"' + "x" * 65 + '"'],
    "category": ["1", "true", "[]", r'"a\u200bb"', r'"a\u0000"', r'"a\tb"', r'"\t"', '"' + "x" * 101 + '"'],
    "owner_id": ["987654321", "null"],
    "id": ["987654321"],
    "version": ["987654321"],
    "created_at": ['"2026-01-01T00:00:00Z"'],
    "__class__": ["1"],
    "": ["1"],
    r"\u0000": ["1"],
    "a/b~c": ["1"],
    "Name": ['"Lamp"'],
}
IDS = {
    422: [
        *(
            "0",
            "-1",
            "-9223372036854775808",
            "9223372036854775808",
            "18446744073709551617",
            "9" * 400,
            "1" + "0" * 5000,
        ),
        *(
            "abc",
            "1.0",
            "1e3",
            "0x10",
            "1_0",
            "+1",
            "%201",
            "1%20",
            "%2B1",
            "1%00",
            "%00",
            "%0A1",
            "%D9%A1",
            "%EF%BC%91",
        ),
        *(
            "%FF",
            "%ED%A0%80",
            "NaN",
            "Infinity",
            "true",
            "null",
            "1;2",
            "1,2",
            "%3F",
            "%25",
            "'",
            "1'%20OR%201=1--",
            "*",
        ),
    ],
    404: ["9223372036854775807", "4611686018427387904"],
}
QUERIES = [
    *("skip=-1", "skip=10001", "skip=9223372036854775808", "skip=" + "9" * 5000, "skip=abc", "skip=1.0", "skip=1e3"),
    *("skip=%00", "skip=%FF", "skip=1_0", "skip=+1", "skip=%201", "skip=NaN", "skip=true", "skip=null"),
    *("limit=0", "limit=-1", "limit=101", "limit=1e400", "limit=1.5", "limit=%D9%A1", "limit=Infinity"),
    *("offset=1", "Limit=1", "page=1", "skip=1&x=1", "=1", "%00=1", "%FF=%FF", "limit[]=1", "limit%00=1", "name=lamp"),
    *("limit=1&limit=1", "q=a&q=", "count=true&count=false", "category=a&category=%00"),
    *("sort=sku", "sort=-", "sort=id%00", "q=*", "q=%00", "q=%22", "q=%27%20OR%201=1--%00", "q=" + "a" * 201),
    *("min_price=x", "min_price=1e400", "max_price=-1", "min_price=2&max_price=1", "currency=usd", "category=%00"),
    *("in_stock=2", "count=yes", "owner_id=0", "owner_id=9223372036854775808", "cursor=x", "cursor=%00"),
]


@pytest.mark.parametrize("field", INVALID_PRODUCT_VALUES)
def test_an_invalid_field_of_a_product_is_a_422_that_points_to_it(
    products: httpx.Client, product: dict[str, Any], field: str
) -> None:
    pointer = "/" + json.loads(f'"{field}"').replace("~", "~0").replace("/", "~1")
    for value in INVALID_PRODUCT_VALUES[field]:
        for answer in (
            products.post("/products", content=with_field(DRAFT, field, value), headers=JSON),
            products.put(f"/products/{product['id']}", content=with_field({}, field, value), headers=JSON),
        ):
            errors = problem(answer, 422, "validation-failed")["errors"]
            assert {error["pointer"] for error in errors} == {pointer}, value
            assert all(error["detail"] for error in errors)


@pytest.mark.parametrize("field", ["name", "price", "quantity"])
def test_required_fields_are_required(products: httpx.Client, field: str) -> None:
    incomplete = {name: value for name, value in DRAFT.items() if name != field}
    errors = problem(products.post("/products", json=incomplete), 422, "validation-failed")["errors"]
    assert errors == [{"pointer": f"/{field}", "detail": "This is required"}]


def test_a_price_with_too_many_decimals_for_its_currency_is_rejected(
    products: httpx.Client, product: dict[str, Any]
) -> None:
    for change in ({"price": "100.5", "currency": "JPY"}, {"price": 1.001, "currency": "EUR"}, {"currency": "JPY"}):
        errors = problem(products.put(f"/products/{product['id']}", json=change), 422)["errors"]
        assert [error["pointer"] for error in errors] == ["/price"]


def test_all_invalid_fields_are_reported_at_once(products: httpx.Client) -> None:
    errors = problem(products.post("/products", json={"price": True, "quantity": "3", "colour": "red"}), 422)["errors"]
    assert {error["pointer"] for error in errors} == {"/name", "/price", "/quantity", "/colour"}


@pytest.mark.parametrize("status", IDS)
def test_impossible_and_unknown_ids_are_rejected(products: httpx.Client, status: int) -> None:
    for product_id in IDS[status]:
        address = products.base_url.copy_with(raw_path=f"/products/{product_id}".encode())
        for method, body in (("GET", None), ("PUT", {"quantity": 1}), ("DELETE", None)):
            answer = products.request(method, address, json=body)
            code = "product-not-found" if status == 404 else "validation-failed"
            errors = problem(answer, status, code).get("errors", [])
            assert {error["parameter"] for error in errors} == ({"product_id"} if status == 422 else set()), product_id
            if method != "GET":
                problem(products.request(method, address, json=body, headers={"Authorization": ""}), 401)


@pytest.mark.parametrize("query", QUERIES)
def test_invalid_query_parameters_are_a_422(products: httpx.Client, query: str) -> None:
    address = products.base_url.copy_with(raw_path=f"/products?{query}".encode())
    errors = problem(products.get(address), 422, "validation-failed")["errors"]
    assert all("parameter" in error for error in errors)
