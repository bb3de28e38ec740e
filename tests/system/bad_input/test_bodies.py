"""Bad bodies, content types and query parameters: the documented error for each, never a 500, and nothing stored."""

import json
from typing import Any

import httpx
import pytest

from testkit.processes import Account, problem
from tests.system.bad_input.drafts import DRAFT, JSON

# Bodies that can't be decoded.
MALFORMED = {
    "not JSON": b"{",
    "a word": b"hello",
    "two values": b"{} {}",
    "single quotes": b"{'name': 'Lamp'}",
    "a trailing comma": b'{"name": "Lamp",}',
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
    "a nested surrogate": rb'{"name": [{"a": ["\ud83d\ud83d"]}]}',
    "a raw NUL": b'{"name": "a\x00b"}',
    "a raw line break": b'{"name": "a\nb"}',
    "NaN": b'{"name": "Lamp", "price": NaN, "quantity": 1}',
    "Infinity": b'{"name": "Lamp", "price": Infinity, "quantity": 1}',
    "-Infinity": b'{"name": "Lamp", "price": -Infinity, "quantity": 1}',
    "a duplicate key": b'{"name": "Lamp", "name": "Lamp", "price": 1, "quantity": 1}',
    "a number of 5,000 digits": b'{"quantity": ' + b"9" * 5000 + b"}",
    "an exponent of six digits": b'{"price": 1e999999}',
    "a negative exponent of six digits": b'{"price": 1E-999999}',
    "an exponent of 20 digits": b'{"price": 1e99999999999999999999}',
    "a hexadecimal number": b'{"price": 0x10}',
    "a leading zero": b'{"price": 010}',
    "no digits before the decimal point": b'{"price": .5}',
    "deeply nested arrays": b"[" * 15_000,
    "deeply nested objects": b'{"a":' * 3_000,
}
NOT_A_FILLED_OBJECT = [b"[]", b'"text"', b"1", b"1.5", b"1e400", b"null", b"true", b"[[{}]]", b"", b"{}"]


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_undecodable_body_is_a_400(
    users: httpx.Client, products: httpx.Client, product: dict[str, Any], body: bytes
) -> None:
    for client, method, path in (
        (users, "POST", "/register"),
        (users, "POST", "/login"),
        (users, "POST", "/validate-token"),
        (products, "POST", "/products"),
        (products, "PUT", f"/products/{product['id']}"),
    ):
        problem(client.request(method, path, content=body, headers=JSON), 400, "malformed-body")
        # The caller is authenticated before the body is read.
        anonymous = client.request(method, path, content=body, headers={**JSON, "Authorization": ""})
        assert anonymous.status_code == (400 if client is users else 401)


@pytest.mark.parametrize("body", NOT_A_FILLED_OBJECT)
def test_a_non_object_or_an_empty_object_is_a_422(
    users: httpx.Client, products: httpx.Client, product: dict[str, Any], body: bytes
) -> None:
    for client, path in ((users, "/register"), (users, "/login"), (users, "/validate-token"), (products, "/products")):
        assert problem(client.post(path, content=body, headers=JSON), 422, "validation-failed")["errors"]
    if body != b"{}":
        answer = products.put(f"/products/{product['id']}", content=body, headers=JSON)
        assert problem(answer, 422, "validation-failed")["errors"]


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/xml", "application/jsonx", "multipart/form-data; boundary=a"]
)
def test_an_unsupported_content_type_is_a_415(
    users: httpx.Client, products: httpx.Client, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    for client, path in ((users, "/register"), (users, "/login"), (users, "/validate-token"), (products, "/products")):
        problem(client.post(path, content=json.dumps(DRAFT), headers=headers), 415, "unsupported-media-type")


def test_operations_outside_oauth2_reject_forms(users: httpx.Client, products: httpx.Client) -> None:
    for client, path in ((users, "/register"), (users, "/validate-token"), (products, "/products")):
        problem(client.post(path, data={"token": "x"}), 415, "unsupported-media-type")


def test_a_body_over_the_limit_is_a_413(users: httpx.Client, products: httpx.Client) -> None:
    large = b'{"name": "' + b"x" * 131_072 + b'"}'
    for client, path, body in (
        (users, "/register", large[-17_000:]),
        (users, "/login", large[-17_000:]),
        (users, "/validate-token", large[-17_000:]),
        (products, "/products", large),
    ):
        problem(client.post(path, content=body, headers=JSON), 413, "body-too-large")
        problem(client.post(path, content=iter([body[:9000], body[9000:]]), headers=JSON), 413, "body-too-large")


def test_unknown_query_parameters_are_rejected_everywhere(
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
