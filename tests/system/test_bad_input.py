"""Bad input over the wire: the documented refusal for each, never a 500, and nothing stored."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from testkit.processes import Account, Service, Services, problem

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}
# What cannot be decoded, whatever it was meant to be.
MALFORMED = {
    "not JSON": b"{",
    "a word": b"hello",
    "two values": b"{} {}",
    "single quotes": b"{'name': 'Lamp'}",
    "a comma too many": b'{"name": "Lamp",}',
    "a comment": b'{"name": "Lamp"} // a lamp',
    "not UTF-8": b'{"name": "\xff"}',
    "Latin-1": '{"name": "Grün"}'.encode("latin-1"),
    "UTF-16": '{"name": "Lamp"}'.encode("utf-16"),
    "a byte order mark": '{"name": "Lamp"}'.encode("utf-8-sig"),
    "an encoded surrogate": b'{"name": "\xed\xa0\x80"}',
    "an overlong NUL": b'{"name": "\xc0\x80"}',
    "a lone high surrogate": rb'{"name": "\ud800"}',
    "a lone low surrogate": rb'{"name": "x\uDFFFx"}',
    "a surrogate in a key": rb'{"\ud83d": 1}',
    "a deep surrogate": rb'{"name": [{"a": ["\ud83d\ud83d"]}]}',
    "a raw NUL": b'{"name": "a\x00b"}',
    "a raw line break": b'{"name": "a\nb"}',
    "NaN": b'{"name": "Lamp", "price": NaN, "quantity": 1}',
    "Infinity": b'{"name": "Lamp", "price": Infinity, "quantity": 1}',
    "-Infinity": b'{"name": "Lamp", "price": -Infinity, "quantity": 1}',
    "a key twice": b'{"name": "Lamp", "name": "Lamp", "price": 1, "quantity": 1}',
    "a number without end": b'{"quantity": ' + b"9" * 5000 + b"}",
    "an exponent of six digits": b'{"price": 1e999999}',
    "a negative exponent of six digits": b'{"price": 1E-999999}',
    "an exponent without end": b'{"price": 1e99999999999999999999}',
    "a hexadecimal number": b'{"price": 0x10}',
    "a leading zero": b'{"price": 010}',
    "no digits before the point": b'{"price": .5}',
    "nested without end": b"[" * 100_000,
    "objects nested without end": b'{"a":' * 100_000,
}
NOT_OBJECTS = [b"[]", b'"text"', b"1", b"1.5", b"1e400", b"null", b"true", b"[[{}]]", b"", b"{}"]
# JSON that is put in place of one field's value of a draft, by that field.
WRONG_PRODUCT_VALUES = {
    "name": [
        *("null", "1", "true", "1e400", "[]", '["Lamp"]', "{}", '""', '" "', r'"\t"', r'"\u2003\u00a0"'),
        *(r'"a\u0000b"', r'"a\nb"', r'"\u001b[31m"', r'"\u007f"', r'"\u0085"', '"' + "x" * 256 + '"'),
    ],
    "description": ["1", "true", "[]", r'"a\u0000b"', r'"\u001b"', r'"\u009f"', '"' + "x" * 1001 + '"'],
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
    "sku": ["1", "true", "[]", '""', r'"a\u0000"', r'"a\tb"', '"' + "x" * 65 + '"'],
    "category": ["1", "true", "[]", '""', r'"a\u0000"', r'"a\tb"', '"' + "x" * 101 + '"'],
    "owner_id": ["1", "null"],
    "id": ["1"],
    "version": ["1"],
    "created_at": ['"2026-01-01T00:00:00Z"'],
    "__class__": ["1"],
    "": ["1"],
    r"\u0000": ["1"],
    "a/b~c": ["1"],
    "Name": ['"Lamp"'],
}
WRONG_REGISTRATION_VALUES = {
    "username": [
        *("null", "1", "true", "1e400", "[]", '["adaa"]', "{}", '""', '"ab"', '"' + "x" * 51 + '"', '"a b c"', '"äöü"'),
        *(
            r'"ada\n"',
            r'"ada\u0000"',
            r'"\u0000ada"',
            '" ada"',
            '"ada "',
            '"a/da"',
            '"ada@x"',
            r'"\u0430\u0434\u0430"',
            r'"\uff41\uff44\uff41"',
        ),
    ],
    "password": [
        *("null", "1", "12345678", "true", "[]", "{}", '""', '"1234567"', '"' + "x" * 257 + '"'),
        *(r'"12345678\u0000"', r'"1234\n5678"', r'"\u001b12345678"', r'"12345678\u0080"'),
    ],
    "is_active": ["true"],
    "roles": ['["admin"]'],
    "id": ["1"],
    "Username": ['"ada"'],
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
    *(
        "skip=",
        "skip",
        "skip=%00",
        "skip=%FF",
        "skip=1_0",
        "skip=+1",
        "skip=%201",
        "skip=NaN",
        "skip=true",
        "skip=null",
    ),
    *("limit=0", "limit=-1", "limit=101", "limit=1e400", "limit=1.5", "limit=", "limit=%D9%A1", "limit=Infinity"),
    *("offset=1", "Limit=1", "page=1", "skip=1&x=1", "=1", "%00=1", "%FF=%FF", "limit[]=1", "limit%00=1", "sku=lamp"),
    *("sort=sku", "sort=-", "sort=id%00", "q=", "q=*", "q=%00", "q=%22", "q=%27%20OR%201=1--%00", "q=" + "a" * 201),
    *("min_price=x", "min_price=1e400", "max_price=-1", "min_price=2&max_price=1", "currency=usd", "category=%00"),
    *("in_stock=1", "count=yes", "owner_id=0", "owner_id=9223372036854775808", "cursor=x", "cursor=%00", "cursor="),
]


@pytest.fixture(scope="module")
def owner(services: Services) -> Account:
    return services.sign_up()


@pytest.fixture(scope="module")
def product(services: Services, owner: Account) -> dict[str, Any]:
    return services.create_product(owner, description="to stay as it is", sku="to-stay")


def rows(service: Service) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the service has stored."""
    with closing(sqlite3.connect(service.database, timeout=10)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}


@pytest.fixture(autouse=True)
def nothing_is_stored(services: Services, owner: Account, product: dict[str, Any]) -> Iterator[None]:
    both = (services.users, services.products)
    before = [rows(service) for service in both]
    assert all(any(stored.values()) for stored in before)
    yield
    assert [rows(service) for service in both] == before
    with services.products.client() as client:
        assert client.get("/products").json() == [product]
    for service in both:
        assert "unexpected exception" not in service.log


@pytest.fixture
def users(services: Services) -> Iterator[httpx.Client]:
    with services.users.client() as client:
        yield client


@pytest.fixture
def products(services: Services, owner: Account) -> Iterator[httpx.Client]:
    with services.products.client(headers=owner.bearer) as client:
        yield client


def with_field(draft: dict[str, Any], name: str, value: str) -> bytes:
    """The draft as JSON with this member, spelled as given, in it or in its member's place."""
    rest = {key: json.dumps(given) for key, given in draft.items() if key != name}
    return ("{" + ", ".join(f'"{key}": {given}' for key, given in {**rest, name: value}.items()) + "}").encode()


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_body_that_cannot_be_decoded_is_a_400(
    users: httpx.Client, products: httpx.Client, product: dict[str, Any], body: bytes
) -> None:
    for client, method, path in (
        (users, "POST", "/register"),
        (users, "POST", "/login"),
        (users, "POST", "/validate-token"),
        (products, "POST", "/products"),
        (products, "PUT", f"/products/{product['id']}"),
    ):
        answer = client.request(method, path, content=body, headers=JSON)
        if path == "/validate-token" and len(body) > 16 * 1024:
            problem(answer, 413, "body-too-large")
        else:
            problem(answer, 400, "malformed-body")
        # The body is looked at before the caller is.
        without = client.request(method, path, content=body, headers={**JSON, "Authorization": ""})
        assert without.status_code == answer.status_code


@pytest.mark.parametrize("body", NOT_OBJECTS)
def test_a_body_that_is_no_object_or_an_empty_one_is_a_422(
    users: httpx.Client, products: httpx.Client, product: dict[str, Any], body: bytes
) -> None:
    for client, path in ((users, "/register"), (users, "/login"), (users, "/validate-token"), (products, "/products")):
        assert problem(client.post(path, content=body, headers=JSON), 422, "validation-failed")["errors"]
    if body != b"{}":
        answer = products.put(f"/products/{product['id']}", content=body, headers=JSON)
        assert problem(answer, 422, "validation-failed")["errors"]


@pytest.mark.parametrize("field", WRONG_PRODUCT_VALUES)
def test_a_wrong_value_in_a_product_is_a_422_that_points_to_it(
    products: httpx.Client, product: dict[str, Any], field: str
) -> None:
    pointer = "/" + json.loads(f'"{field}"').replace("~", "~0").replace("/", "~1")
    for value in WRONG_PRODUCT_VALUES[field]:
        for answer in (
            products.post("/products", content=with_field(DRAFT, field, value), headers=JSON),
            products.put(f"/products/{product['id']}", content=with_field({}, field, value), headers=JSON),
        ):
            errors = problem(answer, 422, "validation-failed")["errors"]
            assert {error["pointer"] for error in errors} == {pointer}, value
            assert all(error["detail"] for error in errors)


@pytest.mark.parametrize("field", ["name", "price", "quantity"])
def test_a_product_needs_its_required_fields(products: httpx.Client, field: str) -> None:
    less = {name: value for name, value in DRAFT.items() if name != field}
    errors = problem(products.post("/products", json=less), 422, "validation-failed")["errors"]
    assert errors == [{"pointer": f"/{field}", "detail": "Field required"}]


def test_a_price_has_no_more_decimals_than_its_currency(products: httpx.Client, product: dict[str, Any]) -> None:
    for change in ({"price": "100.5", "currency": "JPY"}, {"price": 1.001, "currency": "EUR"}, {"currency": "JPY"}):
        errors = problem(products.put(f"/products/{product['id']}", json=change), 422)["errors"]
        assert [error["pointer"] for error in errors] == ["/price"]


def test_all_mistakes_are_told_at_once(products: httpx.Client) -> None:
    errors = problem(products.post("/products", json={"price": True, "quantity": "3", "colour": "red"}), 422)["errors"]
    assert {error["pointer"] for error in errors} == {"/name", "/price", "/quantity", "/colour"}


@pytest.mark.parametrize("field", WRONG_REGISTRATION_VALUES)
def test_a_wrong_value_in_a_registration_is_a_422_that_points_to_it(users: httpx.Client, field: str) -> None:
    draft = {"username": "never-stored", "password": "correct horse battery staple"}
    for value in WRONG_REGISTRATION_VALUES[field]:
        answer = users.post("/register", content=with_field(draft, field, value), headers=JSON)
        errors = problem(answer, 422, "validation-failed")["errors"]
        assert {error["pointer"] for error in errors} == {f"/{field}"}, value
        assert json.loads(value) in (True, 1, []) or "never-stored" not in answer.text


def test_a_name_that_differs_only_in_case_is_taken(users: httpx.Client, owner: Account) -> None:
    for name in (owner.username, owner.username.upper(), owner.username.title()):
        answer = users.post("/register", json={"username": name, "password": "another long password"})
        problem(answer, 409, "username-taken")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"username=ada", 422),
        (b"password=x", 422),
        (b"username=&password=", 422),
        (b"username=a%00b&password=x", 422),
        (b"username=ada&password=x%00", 422),
        (b"username=ada&password=x&remember=1", 422),
        (b"username=ada&password=" + b"x" * 257, 422),
        (b"username=ada&password=x&password=y", 400),
        (b"username=%FF&password=x", 400),
        (b"username=%ED%A0%80&password=x", 400),
        (b"username=\xff&password=x", 400),
        (b"username", 400),
        (b'{"username": "ada", "password": "x"}', 400),
        (b"a=1&" * 200 + b"username=ada&password=x", 400),
        (b"username=ada&password=nobodys-password", 401),
    ],
)
def test_a_login_form_that_is_wrong_is_refused(users: httpx.Client, body: bytes, status: int) -> None:
    problem(users.post("/login", content=body, headers=FORM), status)


@pytest.mark.parametrize(
    "value", ['"username": 1', '"username": true', r'"username": "a\u0000"', '"password": 1e400', '"remember": true']
)
def test_a_login_in_json_that_is_wrong_is_refused(users: httpx.Client, value: str) -> None:
    name, _, given = value.partition(": ")
    body = with_field({"username": "ada", "password": "x"}, name.strip('"'), given)
    problem(users.post("/login", content=body, headers=JSON), 422, "validation-failed")


@pytest.mark.parametrize(
    "body", [b'{"token": 1}', b'{"token": null}', b'{"token": true}', b'{"token": ["a"]}', b'{"token": "a", "x": 1}']
)
def test_a_question_about_a_token_that_is_no_text_is_a_422(users: httpx.Client, body: bytes) -> None:
    problem(users.post("/validate-token", content=body, headers=JSON), 422, "validation-failed")


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/xml", "application/jsonx", "multipart/form-data; boundary=a"]
)
def test_another_content_type_is_a_415(users: httpx.Client, products: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    for client, path in ((users, "/register"), (users, "/login"), (users, "/validate-token"), (products, "/products")):
        problem(client.post(path, content=json.dumps(DRAFT), headers=headers), 415, "unsupported-media-type")


def test_a_form_is_read_by_login_alone(users: httpx.Client, products: httpx.Client) -> None:
    for client, path in ((users, "/register"), (users, "/validate-token"), (products, "/products")):
        problem(client.post(path, data={"token": "x"}), 415, "unsupported-media-type")


def test_a_body_that_is_too_large_is_a_413_announced_or_not(users: httpx.Client, products: httpx.Client) -> None:
    large = b'{"name": "' + b"x" * 1_048_576 + b'"}'
    for client, path, body in (
        (users, "/register", large),
        (users, "/login", large),
        (users, "/validate-token", large[-17_000:]),
        (products, "/products", large),
    ):
        problem(client.post(path, content=body, headers=JSON), 413, "body-too-large")
        problem(client.post(path, content=iter([body[:9000], body[9000:]]), headers=JSON), 413, "body-too-large")


@pytest.mark.parametrize("status", IDS)
def test_an_id_that_no_product_can_have_is_refused(products: httpx.Client, status: int) -> None:
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
def test_a_query_that_is_out_of_range_or_unknown_is_a_422(products: httpx.Client, query: str) -> None:
    address = products.base_url.copy_with(raw_path=f"/products?{query}".encode())
    errors = problem(products.get(address), 422, "validation-failed")["errors"]
    assert all("parameter" in error for error in errors)


def test_an_unknown_query_parameter_is_refused_everywhere(
    users: httpx.Client, products: httpx.Client, owner: Account, product: dict[str, Any]
) -> None:
    credentials = {"username": owner.username, "password": owner.password}
    for client, method, path, body in (
        (users, "GET", "/me", None),
        (users, "POST", "/login", credentials),
        (users, "POST", "/register", {**credentials, "username": "never-stored"}),
        (users, "POST", "/validate-token", {"token": "x"}),
        (users, "GET", "/health", None),
        (users, "GET", "/health/live", None),
        (users, "GET", "/health/ready", None),
        (products, "POST", "/products", DRAFT),
        (products, "GET", f"/products/{product['id']}", None),
        (products, "PUT", f"/products/{product['id']}", {"quantity": 1}),
        (products, "DELETE", f"/products/{product['id']}", None),
        (products, "GET", "/health", None),
    ):
        answer = client.request(method, path, json=body, params={"verbose": "1"}, headers=owner.bearer)
        (error,) = problem(answer, 422, "validation-failed")["errors"]
        assert error == {"parameter": "verbose", "detail": "Unknown parameter"}, path
