"""`chassis.http.problems`: the status, headers and body of every error."""

import httpx
import pytest
from fastapi import FastAPI

from chassis.http.problems import status_of
from testkit.library import logged
from testkit.library_api import ERRORS, ORIGIN, SECRET, TOKEN, BookNotFound, problem


@pytest.mark.parametrize(
    ("code", "status", "title", "headers"),
    [
        ("missing-badge", 401, "Unauthorized", {"www-authenticate": "Bearer"}),
        ("invalid-badge", 401, "Unauthorized", {"www-authenticate": 'Bearer error="invalid_token"'}),
        ("not-yours", 403, "Forbidden", {}),
        ("book-not-found", 404, "Not Found", {}),
        ("on-loan", 409, "Conflict", {}),
        ("closed", 503, "Service Unavailable", {"retry-after": "60"}),
    ],
)
async def test_each_category_has_its_status_and_headers(
    client: httpx.AsyncClient, code: str, status: int, title: str, headers: dict[str, str]
) -> None:
    answer = await client.get(f"/failures/errors/{code}")
    body = problem(answer, status, code)
    assert body["title"] == title
    assert body["detail"] == ERRORS[code].detail
    assert body["instance"] == f"/failures/errors/{code}"
    assert "errors" not in body
    present = {name: answer.headers[name] for name in ("www-authenticate", "retry-after") if name in answer.headers}
    assert present == headers
    assert status_of(ERRORS[code]) == status


async def test_a_422_lists_every_field_error(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/failures/invalid"), 422, "validation-failed")
    assert body["title"] == "Unprocessable Content"
    assert body["errors"] == [
        {"pointer": "/a~1b", "detail": "It is too wide."},
        {"pointer": "/c", "detail": "It is too long."},
    ]


def test_an_error_may_have_its_own_detail() -> None:
    assert str(BookNotFound()) == BookNotFound.detail
    assert BookNotFound("Faust was lost.").detail == "Faust was lost."
    assert BookNotFound.detail == "There is no such book."


async def test_an_unknown_path_is_a_problem(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/nothing/here"), 404, "not-found")
    assert body["instance"] == "/nothing/here"
    problem(await client.get("/books/"), 404, "not-found")
    problem(await client.get("/docs/assets/secret.js"), 404, "asset-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/books", "GET, HEAD, POST"),
        ("POST", "/books/1", "DELETE, GET, HEAD"),
        ("PUT", "/books/1", "DELETE, GET, HEAD"),
        ("GET", "/books/1/lend", "POST"),
        ("HEAD", "/books/1/lend", "POST"),
        ("OPTIONS", "/books", "GET, HEAD, POST"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_405_lists_all_methods_of_the_path(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    if method != "HEAD":
        problem(answer, 405, "method-not-allowed")


async def test_a_405_lists_all_methods_behind_a_proxy_prefix(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app, root_path="/library")
    async with httpx.AsyncClient(transport=transport, base_url="http://library.test") as client:
        answer = await client.patch("/library/books")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_json_pointers_are_escaped(client: httpx.AsyncClient) -> None:
    draft = {"name": "", "tags": {"a/b": "x", "c~d": "x", "~1": "x", "é": "x", "": "x"}, "extra/~field": 1}
    body = problem(await client.post("/books", json=draft, headers=TOKEN), 422, "validation-failed")
    assert {each["pointer"] for each in body["errors"]} == {
        "/name",
        "/tags/a~1b",
        "/tags/c~0d",
        "/tags/~01",
        "/tags/é",
        "/tags/",
        "/extra~1~0field",
    }
    details = {each["pointer"]: each["detail"] for each in body["errors"]}
    assert details["/extra~1~0field"] == "Unknown field"


async def test_validation_errors_do_not_repeat_the_input(client: httpx.AsyncClient) -> None:
    draft = {"name": ["hunter2"], "price": "hunter2", "tags": {"a": "hunter2"}}
    answer = await client.post("/books", json=draft, headers=TOKEN)
    problem(answer, 422, "validation-failed")
    assert "hunter2" not in answer.text


async def test_errors_in_parameters_and_headers_name_the_parameter(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/books/1_0"), 422, "validation-failed")
    assert body["errors"] == [{"parameter": "book_id", "detail": "Must be a whole number in decimal digits"}]
    body = problem(await client.get("/failures/headers"), 422, "validation-failed")
    assert body["errors"] == [{"parameter": "x-count", "detail": "This is required"}]


@pytest.mark.parametrize(
    ("path", "instance"),
    [
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/%3Cscript%3E", "/%3Cscript%3E"),
        ("/%22%0D%0A%00", "/%22%0D%0A%00"),
        ("/100%25", "/100%25"),
        ("/a:b@c,d;e", "/a:b@c,d;e"),
    ],
)
async def test_instance_is_the_quoted_path_without_the_query(
    client: httpx.AsyncClient, path: str, instance: str
) -> None:
    answer = await client.get(path + "?token=hunter2")
    assert problem(answer, 404, "not-found")["instance"] == instance


async def test_an_unexpected_exception_is_a_500_without_details(client: httpx.AsyncClient) -> None:
    with logged() as log:
        answer = await client.get("/failures/unexpected", headers={"Origin": ORIGIN, "X-Request-ID": "mine"})
    body = problem(answer, 500, "internal-error")
    assert answer.headers["x-request-id"] == "mine"
    assert (
        answer.headers["access-control-allow-origin"] == "*" or answer.headers["access-control-allow-origin"] == ORIGIN
    )
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
    for word in (SECRET, "ZeroDivision", "Traceback", ".py"):
        assert word not in answer.text
    assert set(body) == {"type", "title", "status", "detail", "instance", "code", "request_id"}
    # The log has all details, under the same id.
    error, request = log.lines
    assert (error["level"], error["request_id"]) == ("error", "mine")
    assert SECRET in error["exception"]
    assert (request["level"], request["status"], request["route"]) == ("warning", 500, "/failures/unexpected")
