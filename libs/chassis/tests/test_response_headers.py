"""Security headers of every response, and the client's address behind proxies."""

import httpx
import pytest
from fastapi import FastAPI

from testkit import library_api
from testkit.library import client_of, logged, make_app
from testkit.library_api import TOKEN

PROXY, CLIENT = "10.0.0.1", "203.0.113.5"


@pytest.mark.parametrize("path", ["/books", "/books/1", "/nothing", "/failures/unexpected", "/docs", "/openapi.json"])
async def test_every_response_forbids_guessing_its_type(client: httpx.AsyncClient, path: str) -> None:
    with logged():
        answer = await client.get(path)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert "strict-transport-security" not in answer.headers


async def test_https_is_demanded_only_if_the_setting_says_so() -> None:
    async with client_of(make_app(hsts_seconds=31_536_000)) as client:
        answer = await client.get("/nothing")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/books/5", TOKEN, 200),
        ("HEAD", "/books/5", TOKEN, 200),
        ("GET", "/books", TOKEN, 200),  # Public, but a cache can't know.
        ("DELETE", "/books/1", TOKEN, 204),
        ("DELETE", "/books/1", {}, 401),
        ("DELETE", "/books/1", {"Authorization": "Basic Og=="}, 401),
        ("GET", "/nothing", TOKEN, 404),
        ("GET", "/books?colour=red", TOKEN, 422),
        ("GET", "/failures/unexpected", TOKEN, 500),
        ("POST", "/books", {}, 401),
    ],
)
async def test_responses_that_may_be_for_one_caller_only_must_not_be_stored(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    with logged():
        answer = await client.request(method, path, headers=headers)
    assert (answer.status_code, answer.headers.get_list("cache-control")) == (status, ["no-store"])


@pytest.mark.parametrize("path", ["/books", "/nothing", "/docs", "/openapi.json"])
async def test_public_responses_may_be_stored(client: httpx.AsyncClient, path: str) -> None:
    assert "cache-control" not in (await client.get(path)).headers
    assert "cache-control" not in (await client.options(path)).headers


@pytest.fixture
def behind_proxy() -> FastAPI:
    return make_app(library_api.books(), trusted_proxies="10.0.0.0/8")


async def logged_address(app: FastAPI, peer: str, forwarded: str | None) -> object:
    transport = httpx.ASGITransport(app, client=(peer, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://library.test") as client:
        with logged() as log:
            await client.get("/books", headers={"X-Forwarded-For": forwarded} if forwarded else {})
    (request,) = log.requests
    return request["ip"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        (PROXY, None, PROXY),
        (PROXY, CLIENT, CLIENT),
        (PROXY, f"1.2.3.4, {CLIENT}", CLIENT),
        (PROXY, f"{CLIENT}:4711", CLIENT),
        (PROXY, "2001:db8::1", "2001:db8::1"),
        (PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        (PROXY, f"{CLIENT}, 10.9.9.9", CLIENT),
        (CLIENT, "1.2.3.4", CLIENT),
        (PROXY, "unknown", PROXY),
        (PROXY, "_hidden", PROXY),
        (PROXY, "\x1b[31mred", PROXY),
        (PROXY, "fe80::1%\x1b[31mred", PROXY),
        (PROXY, "[fe80::1%eth0]:4711", PROXY),
        (PROXY, f"{CLIENT}, ", PROXY),
    ],
)
async def test_the_logged_address_is_that_of_the_client(
    behind_proxy: FastAPI, peer: str, forwarded: str | None, address: str
) -> None:
    assert await logged_address(behind_proxy, peer, forwarded) == address


async def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert await logged_address(make_app(library_api.books()), PROXY, CLIENT) == PROXY


@pytest.mark.parametrize("every", ["0.0.0.0/0", "::/0"])
def test_not_every_address_can_be_a_trusted_proxy(every: str) -> None:
    with pytest.raises(ValueError, match="is every address, so every client could choose its own"):
        make_app(trusted_proxies=every)
