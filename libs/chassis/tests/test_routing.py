"""`chassis.http.routing`: bodies, query parameters, and the order of errors."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from chassis.http.middleware import BodyTimeout
from testkit import library_api
from testkit.applications import running
from testkit.library import make_app
from testkit.library_api import TOKEN, accept_any_token, problem


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


async def test_errors_are_checked_in_order_413_415_400_401_422(client: httpx.AsyncClient) -> None:
    def post(body: bytes, **headers: str) -> Any:
        return client.post("/books?colour=red", content=body, headers=headers)

    json_type = {"Content-Type": "application/json"}
    problem(await post(b"x" * 2_001), 413, "body-too-large")
    problem(await post(b"{"), 415, "unsupported-media-type")
    problem(await post(b"{", **json_type), 400, "malformed-body")
    problem(await post(b"{}", **json_type), 401, "not-authenticated")
    body = problem(await post(b"{}", **json_type, **TOKEN), 422, "validation-failed")
    assert body["errors"] == [
        {"parameter": "colour", "detail": "Unknown parameter"},
        {"pointer": "/name", "detail": "This is required"},
    ]


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


async def test_a_body_that_stalls_is_a_408() -> None:
    async def stall() -> AsyncIterator[bytes]:
        yield b'{"name"'
        await asyncio.Event().wait()

    async with running(make_app(library_api.books(), authenticate=accept_any_token, body_timeout=0.05)) as client:
        answer = await client.post("/books", content=stall(), headers={**TOKEN, "Content-Type": "application/json"})
    body = problem(answer, 408, "body-timeout")
    assert body["detail"] == "The body did not arrive in time: it paused for 0.05 seconds."
    assert answer.headers["connection"] == "close"


async def test_only_the_body_has_a_deadline() -> None:
    """A response that takes long waits for the end of the connection all the time."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"x", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        if len(messages) == 1:
            await asyncio.sleep(0.2)
        return messages.pop(0)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert [(await receive())["type"], (await receive())["type"]] == ["http.request", "http.disconnect"]

    async def send(_: Message) -> None: ...

    await BodyTimeout(application, 0.05)({"type": "http"}, receive, send)
    assert messages == []


async def test_the_body_limit_applies_to_chunked_bodies(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b" " * 100

    answer = await client.post("/books", content=chunks(), headers={"Content-Type": "application/json"})
    assert "content-length" not in answer.request.headers
    problem(answer, 413, "body-too-large")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"x" * 5_000])
async def test_operations_without_a_body_ignore_it(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/books/1/lend", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 200
    assert (await client.request("DELETE", "/books/1", content=body, headers=TOKEN)).status_code == 204
