"""`chassis.http.routing`: bodies, query parameters, and the order of errors."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from chassis.errors import InvalidToken
from testkit import library_api
from testkit.applications import running
from testkit.library import make_app
from testkit.library_api import TOKEN, problem


async def test_numbers_reach_validation_undamaged(client: httpx.AsyncClient) -> None:
    body = b'{"name": "Faust", "price": 19.990000000000000000001}'
    answer = await client.post("/books", content=body, headers={**TOKEN, "Content-Type": "application/json"})
    assert answer.json() == {"name": "Faust", "price": "19.990000000000000000001"}


async def test_the_operation_gets_the_decoded_body(client: httpx.AsyncClient) -> None:
    for text, meaning in (("{}", "{}"), ("[]", "[]"), ('{"a": [1, null]}', "{'a': [1, None]}")):
        answer = await client.post("/any", content=text, headers={"Content-Type": "application/json"})
        assert answer.json() == meaning


@pytest.mark.parametrize("text", ["null", "false", "0", '""', "17", '"text"'])
async def test_json_other_than_an_object_is_a_422(client: httpx.AsyncClient, text: str) -> None:
    answer = await client.post("/books", content=text, headers={**TOKEN, "Content-Type": "application/json"})
    assert problem(answer, 422, "validation-failed")["errors"][0]["pointer"] == ""


async def test_a_missing_body_is_a_422_for_the_whole_body(client: httpx.AsyncClient) -> None:
    answer = await client.post("/books", headers=TOKEN)
    assert problem(answer, 422, "validation-failed")["errors"] == [{"pointer": "", "detail": "A body is required"}]


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON; charset=utf-8"])
async def test_content_type_ignores_case_and_parameters(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post("/books", content=b'{"name": "a"}', headers={**TOKEN, "Content-Type": content_type})
    assert answer.status_code == 201


async def test_errors_are_checked_in_order_401_413_415_400_422(client: httpx.AsyncClient) -> None:
    def post(body: bytes, **headers: str) -> Any:
        return client.post("/books?colour=red", content=body, headers=headers)

    json_type = {"Content-Type": "application/json"}
    problem(await post(b"x" * 2_001), 401, "not-authenticated")
    problem(await post(b"x" * 2_001, **TOKEN), 413, "body-too-large")
    problem(await post(b"{", **TOKEN), 415, "unsupported-media-type")
    problem(await post(b"{", **json_type, **TOKEN), 400, "malformed-body")
    body = problem(await post(b"{}", **json_type, **TOKEN), 422, "validation-failed")
    assert body["errors"] == [
        {"parameter": "colour", "detail": "Unknown parameter"},
        {"pointer": "/name", "detail": "This is required"},
    ]


async def test_a_body_is_not_read_before_the_token_is_checked() -> None:
    """Neither a missing nor an invalid token makes the service wait for a body, and each is checked once."""
    tokens: list[str] = []

    async def reject(token: str) -> Any:
        tokens.append(token)
        if token == "good":
            return library_api.Reader(user_id=7)
        raise InvalidToken

    async def endless() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async with running(make_app(library_api.books(), authenticate=reject)) as client:
        for headers, code in (({}, "not-authenticated"), ({"Authorization": "Bearer bad"}, "invalid-token")):
            problem(await client.post("/books", content=endless(), headers=headers), 401, code)
        answer = await client.post("/books", json={"name": "Faust"}, headers={"Authorization": "Bearer good"})
        assert answer.status_code == 201
    assert tokens == ["bad", "good"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/books?colour=red"),
        ("GET", "/books?q=a&colour=red"),
        ("GET", "/books/1?colour=red"),
        ("GET", "/books/1?colour"),
        ("POST", "/books/1/lend?colour=red"),
        ("GET", "/docs?colour=red"),
    ],
)
async def test_an_unknown_query_parameter_is_a_422(client: httpx.AsyncClient, method: str, path: str) -> None:
    body = problem(await client.request(method, path), 422, "validation-failed")
    assert body["errors"] == [{"parameter": "colour", "detail": "Unknown parameter"}]


async def test_a_repeated_query_parameter_is_a_422(client: httpx.AsyncClient) -> None:
    for query in ("q=a&q=b", "q=a&q=a", "q=a&q="):
        body = problem(await client.get(f"/books?{query}"), 422, "validation-failed")
        assert body["errors"] == [{"parameter": "q", "detail": "Send this parameter only once"}]
    body = problem(await client.get("/books?colour=red&colour=blue&q=a"), 422, "validation-failed")
    assert body["errors"] == [{"parameter": "colour", "detail": "Unknown parameter"}]


async def test_401_comes_before_422_for_query_parameters(client: httpx.AsyncClient) -> None:
    problem(await client.delete("/books/1?colour=red"), 401, "not-authenticated")
    problem(await client.delete("/books/x?colour=red"), 401, "not-authenticated")
    answer = await client.delete("/books/x?colour=red", headers=TOKEN)
    assert {each["parameter"] for each in problem(answer, 422, "validation-failed")["errors"]} == {"book_id", "colour"}


async def test_a_router_has_its_own_body_limit(client: httpx.AsyncClient) -> None:
    body = {"name": "x" * 200}
    answer = await client.post("/small", json=body)
    assert "100 bytes" in problem(answer, 413, "body-too-large")["detail"]
    assert (await client.post("/small", json={"name": "x"})).status_code == 200
    assert (await client.post("/books", json=body, headers=TOKEN)).status_code == 201
    answer = await client.post("/books", json={"name": "x" * 2_000}, headers=TOKEN)
    assert "2000 bytes" in problem(answer, 413, "body-too-large")["detail"]


async def test_the_body_limit_applies_to_chunked_bodies(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 100

    answer = await client.post("/books", content=chunks(), headers={**TOKEN, "Content-Type": "application/json"})
    assert "content-length" not in answer.request.headers
    problem(answer, 413, "body-too-large")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"x" * 5_000])
async def test_operations_without_a_body_ignore_it(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/books/1/lend", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 200
    assert (await client.request("DELETE", "/books/1", content=body, headers=TOKEN)).status_code == 204
