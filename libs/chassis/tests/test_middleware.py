"""`chassis.http.middleware`: request ids, the request log, HEAD, CORS and unexpected exceptions."""

import asyncio
import re

import httpx
import pytest
from fastapi import FastAPI

from chassis import logs
from chassis.http.middleware import MAX_LOGGED_ORIGIN_LENGTH, MAX_LOGGED_ORIGINS, context_headers
from testkit import library_api
from testkit.library import client_of, logged, make_app
from testkit.library_api import ORIGIN, TOKEN

PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "If-Match"}


KINDS: dict[str, tuple[str, str, dict[str, str], int]] = {
    "a success": ("GET", "/books", {}, 200),
    "an empty response": ("DELETE", "/books/1", TOKEN, 204),
    "a HEAD request": ("HEAD", "/books", {}, 200),
    "a preflight": ("OPTIONS", "/books", PREFLIGHT, 200),
    "a rejected preflight": ("OPTIONS", "/books", {**PREFLIGHT, "Origin": "http://evil.test"}, 400),
    "a 401": ("DELETE", "/books/1", {}, 401),
    "a 404": ("GET", "/nothing", {}, 404),
    "a 405": ("PUT", "/books", {}, 405),
    "a 415": ("POST", "/books", {**TOKEN, "Content-Type": "text/plain"}, 415),
    "a 422": ("GET", "/books?colour=red", {}, 422),
    "a 500": ("GET", "/failures/unexpected", {}, 500),
    "a documentation page": ("GET", "/docs", {}, 200),
    "the OpenAPI document": ("GET", "/openapi.json", {}, 200),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_response_has_the_clients_request_id(client: httpx.AsyncClient, kind: str) -> None:
    method, path, headers, status = KINDS[kind]
    content = b"x" if method == "POST" else b""
    with logged() as log:
        answer = await client.request(
            method, path, content=content, headers={**headers, "X-Request-ID": "Mine-1.a:b_c"}
        )
    assert answer.status_code == status
    assert answer.headers.get_list("x-request-id") == ["Mine-1.a:b_c"]
    (request,) = log.requests
    assert (request["request_id"], request["status"], request["method"]) == ("Mine-1.a:b_c", status, method)


@pytest.mark.parametrize(
    "sent", ["", " ", "a b", "x" * 129, "<script>", "a\tb", "a;b", 'a"b', "caf\u00e9", "a/b", "{}", "a,b", "%0a"]
)
async def test_a_malformed_request_id_is_replaced(client: httpx.AsyncClient, sent: str) -> None:
    answer = await client.get("/books/1", headers={b"X-Request-ID": sent.encode("latin-1")})
    given = answer.headers["x-request-id"]
    assert given != sent
    assert len(given) == 32
    assert answer.json()["sent_on"] == {"X-Request-ID": given}


async def test_requests_without_an_id_get_a_new_one(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/books")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_requests_with_the_same_id_can_be_told_apart_in_the_log(
    client: httpx.AsyncClient, log_format: logs.LogFormat
) -> None:
    with logged(log_format=log_format) as log:
        answers = await asyncio.gather(*(client.get("/books/1", headers={"X-Request-ID": "same"}) for _ in range(3)))
    assert {answer.headers["x-request-id"] for answer in answers} == {"same"}
    # Other services get the client's id, which is the one in their logs.
    assert [answer.json()["sent_on"] for answer in answers] == [{"X-Request-ID": "same"}] * 3
    if log_format == "json":
        ids = [(line["request_id"], line["server_request_id"]) for line in log.requests]
    else:
        ids = re.findall(r"request_id=(same)/([0-9a-f]{8})$", log.text, re.MULTILINE)
    assert [chosen for chosen, _ in ids] == ["same"] * 3
    assert len({own for _, own in ids}) == 3


async def test_a_request_without_an_id_has_one_id_in_the_log(client: httpx.AsyncClient) -> None:
    with logged() as log:
        for headers in ({}, {"X-Request-ID": "a b"}):
            answer = await client.get("/books", headers=headers)
            assert answer.headers["x-request-id"] == log.requests[-1]["request_id"]
    assert not [line for line in log.requests if "server_request_id" in line]


async def test_a_request_id_of_128_characters_is_kept(client: httpx.AsyncClient) -> None:
    answer = await client.get("/books", headers={"X-Request-ID": "x" * 128})
    assert answer.headers["x-request-id"] == "x" * 128


@pytest.mark.parametrize(
    "path", ["/books", "/books?q=a", "/books/1", "/nothing", "/books?colour=red", "/docs", "/openapi.json"]
)
async def test_head_is_get_without_a_body(client: httpx.AsyncClient, path: str) -> None:
    headers = {"X-Request-ID": "same"}
    get, head = await client.get(path, headers=headers), await client.head(path, headers=headers)
    assert head.status_code == get.status_code
    assert dict(head.headers) == dict(get.headers)
    assert head.content == b""
    assert get.content != b""


async def test_head_has_no_body_on_a_500(client: httpx.AsyncClient) -> None:
    with logged():
        answer = await client.head("/failures/unexpected")
    assert answer.status_code == 500
    assert answer.content == b""
    assert answer.headers["x-request-id"]


async def test_each_request_is_logged_once(client: httpx.AsyncClient) -> None:
    with logged() as log:
        await client.get("/books/5?colour=hunter2", headers={"X-Request-ID": "one"})
        await client.get("/books/5", headers={"X-Request-ID": "two"})
        await client.get("/nothing/hunter2", headers={"X-Request-ID": "three"})
        await client.head("/books/5", headers={"X-Request-ID": "four"})
    assert [line["request_id"] for line in log.lines] == ["one", "two", "three", "four"]
    for line in log.lines:
        assert set(line) == {
            "time", "level", "service", "message",
            "request_id", "server_request_id", "method", "route", "ip", "status", "duration_ms", "user_id",
        }  # fmt: skip
        assert line["service"] == "library"
        assert line["level"] == "info"
        assert isinstance(line["duration_ms"], float)
    seen = [(line["method"], line["route"], line["status"], line["user_id"]) for line in log.lines]
    assert seen == [
        ("GET", "/books/{book_id}", 422, None),
        ("GET", "/books/{book_id}", 200, 7),
        ("GET", None, 404, None),
        ("HEAD", "/books/{book_id}", 200, 7),
    ]


async def test_a_5xx_is_logged_as_a_warning(client: httpx.AsyncClient) -> None:
    with logged("WARNING") as log:
        await client.get("/books")
        await client.get("/failures/errors/on-loan")
        await client.get("/failures/errors/closed")
    assert [(line["level"], line["status"]) for line in log.lines] == [("warning", 503)]


async def test_the_console_shows_path_status_duration_and_the_code_of_a_refusal(client: httpx.AsyncClient) -> None:
    with logged(log_format="console") as log:
        await client.get("/books/5?colour=hunter2", headers={"X-Request-ID": "one"})
        await client.get("/books/5?", headers={"X-Request-ID": "two"})
        await client.get("/nothing/%1B[31m%0Ahunter2", headers={"X-Request-ID": "three"})
        await client.head("/books/5", headers={"X-Request-ID": "four"})
    lines = [re.sub(r"^[0-9:]{8} (.*) [0-9.]+ ms", r"\1 N ms", line) for line in log.text.splitlines()]
    assert [re.sub("/[0-9a-f]{8}$", "/ours", line) for line in lines] == [
        "info GET /books/5 422 N ms validation-failed request_id=one/ours",
        "info GET /books/5 200 N ms user_id=7 request_id=two/ours",
        "info GET /nothing/%1B%5B31m%0Ahunter2 404 N ms not-found request_id=three/ours",
        "info HEAD /books/5 200 N ms user_id=7 request_id=four/ours",
    ]


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_query_strings_are_logged_in_no_format(client: httpx.AsyncClient, log_format: logs.LogFormat) -> None:
    with logged("DEBUG", log_format) as log:
        for path in ("/books?q=hunter2", "/books/1?colour=hunter2", "/nothing?hunter2", "/failures/unexpected?hunter2"):
            await client.get(path)
    assert log.text.count("GET") == 4
    assert "hunter2" not in log.text


async def test_a_request_line_on_the_console_fits_120_columns_beside_the_name_of_the_service(
    client: httpx.AsyncClient,
) -> None:
    with logged(log_format="console") as log:
        for path in (f"/nothing/{'x' * 500}", f"/books/{'9' * 500}"):
            await client.delete(path, headers=TOKEN)
            await client.get(path, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    assert [len("product | " + line) for line in log.text.splitlines()] == [120] * 4


async def test_request_data_is_not_logged(client: httpx.AsyncClient) -> None:
    with logged("DEBUG") as log:
        await client.post(
            "/books?password=hunter2", json={"name": "hunter2"}, headers={"Authorization": "Bearer hunter2"}
        )
        await client.get("/hunter2", headers={"Cookie": "hunter2", "User-Agent": "hunter2"})
        await client.post("/books", content=b'{"hunter2', headers={"Content-Type": "application/json"})
    assert len(log.requests) == 3
    assert "hunter2" not in log.text


async def test_the_context_ends_with_the_request(client: httpx.AsyncClient) -> None:
    assert context_headers() == {}
    answer = await client.get("/books/1", headers={"X-Request-ID": "mine"})
    assert answer.json()["sent_on"] == {"X-Request-ID": "mine"}
    assert context_headers() == {}
    with logged():
        await client.get("/failures/unexpected", headers={"X-Request-ID": "mine"})
    assert context_headers() == {}


async def test_an_exception_in_a_started_response_closes_the_connection(app: FastAPI) -> None:
    async with client_of(app, raises=True) as client:
        with logged() as log, pytest.raises(ZeroDivisionError):
            await client.get("/failures/truncated")
    assert [line["status"] for line in log.requests] == [200]
    assert context_headers() == {}


async def test_cors_allows_only_configured_origins(client: httpx.AsyncClient) -> None:
    mine = await client.get("/books", headers={"Origin": ORIGIN})
    assert mine.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in mine.headers
    exposed = set(mine.headers["access-control-expose-headers"].split(", "))
    assert {"Location", "Link", "ETag", "X-Total-Count", "X-Request-ID", "Retry-After", "WWW-Authenticate"} <= exposed
    assert (
        "access-control-allow-origin"
        not in (await client.get("/books", headers={"Origin": "http://evil.test"})).headers
    )


@pytest.mark.parametrize("header", ["Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key",
                                    "X-Request-ID", "X-Requested-With", "traceparent"])  # fmt: skip
async def test_a_preflight_allows_each_header(client: httpx.AsyncClient, header: str) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": header}
    answer = await client.options("/books/1", headers=asked)
    assert answer.status_code == 200
    assert header.lower() in answer.headers["access-control-allow-headers"].lower()


async def test_a_preflight_for_a_private_network_is_answered_for_allowed_origins_only(
    client: httpx.AsyncClient,
) -> None:
    asked = {**PREFLIGHT, "Access-Control-Request-Private-Network": "true"}
    answer = await client.options("/books/1", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-private-network"] == "true"
    with logged():
        refused = await client.options("/books/1", headers={**asked, "Origin": "http://evil.test"})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


async def test_a_refused_origin_is_logged_once_with_the_setting_to_change(client: httpx.AsyncClient) -> None:
    with logged("WARNING") as log:
        for origin in ("https://one.test", "https://two.test", "null"):
            await client.options("/books", headers={**PREFLIGHT, "Origin": origin})
            await client.get("/books", headers={"Origin": origin})
        await client.get("/books", headers={"Origin": ORIGIN})
    *with_host, from_file = log.lines
    assert [line["origin"] for line in with_host] == ["https://one.test", "https://two.test"]
    assert all("add it to ALLOWED_ORIGINS" in line["message"] for line in with_host)
    assert from_file["origin"] == "null"
    assert "serve the page over HTTP" in from_file["message"]


async def test_a_page_of_the_service_itself_is_not_logged_as_refused(client: httpx.AsyncClient) -> None:
    with logged("WARNING") as log:
        await client.get("/books", headers={"Origin": "https://books.test", "Host": "books.test"})
    assert log.lines == []


async def test_refused_origins_that_are_logged_have_a_limit(client: httpx.AsyncClient) -> None:
    with logged("WARNING") as log:
        for number in range(MAX_LOGGED_ORIGINS + 10):
            await client.get("/books", headers={"Origin": f"https://{'x' * 1000}{number}.test"})
    assert len(log.lines) == MAX_LOGGED_ORIGINS
    assert {len(line["origin"]) for line in log.lines} == {MAX_LOGGED_ORIGIN_LENGTH}


async def test_a_slow_request_is_logged_with_its_route_only() -> None:
    async with client_of(make_app(library_api.books(), slow_request_seconds=1e-9)) as client:
        with logged("WARNING") as log:
            await client.get("/books/1?colour=hunter2", headers=TOKEN)
            await client.get("/hunter2")
    fields = [{key: line[key] for key in ("level", "message", "method", "route", "status")} for line in log.lines]
    slow = {"level": "warning", "message": "slow request", "method": "GET"}
    assert fields == [{**slow, "route": "/books/{book_id}", "status": 422}, {**slow, "route": None, "status": 404}]
    assert all(line["duration_ms"] >= 0 and line["request_id"] for line in log.lines)
    assert "hunter2" not in log.text
    assert TOKEN["Authorization"].split()[1] not in log.text


@pytest.mark.parametrize("seconds", [0, 60])
async def test_a_request_below_the_limit_is_not_slow(seconds: int) -> None:
    async with client_of(make_app(library_api.books(), slow_request_seconds=seconds)) as client:
        with logged() as log:
            await client.get("/books/1")
    assert [line["message"] for line in log.lines] == ["request"]
