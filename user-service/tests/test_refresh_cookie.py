"""REFRESH_TOKEN_COOKIE: the refresh token as a cookie that scripts can't read."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from testkit.applications import running
from testkit.users import MakeSettings
from user_service import main

ADA = {"username": "ada", "password": "correct horse battery staple"}
FRONTEND = "https://shop.example"


@pytest.fixture
async def client(make_settings: MakeSettings) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings(refresh_token_cookie=True, refresh_token_expire_days=7, allowed_origins=[FRONTEND])
    async with running(main.create_app(settings)) as client:
        await client.post("/register", json=ADA)
        yield client


def cookie_of(answer: httpx.Response) -> Any:
    [header] = answer.headers.get_list("set-cookie")
    [morsel] = SimpleCookie(header).values()
    return morsel


async def refresh(client: httpx.AsyncClient, token: str, **headers: str) -> httpx.Response:
    client.cookies.clear()
    return await client.post("/refresh", headers={"Cookie": f"refresh_token={token}", **headers})


async def test_a_login_sends_the_refresh_token_as_a_cookie_only(client: httpx.AsyncClient) -> None:
    answer = await client.post("/login", json=ADA)
    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type", "expires_in"}
    cookie = cookie_of(answer)
    assert cookie.key == "refresh_token"
    assert (cookie["path"], cookie["samesite"], cookie["max-age"]) == ("/refresh", "strict", str(7 * 86400))
    assert cookie["httponly"] is True
    assert cookie["secure"] is True
    assert cookie["domain"] == ""


async def test_the_cookie_expires_with_its_session(make_settings: MakeSettings) -> None:
    settings = make_settings(refresh_token_cookie=True, refresh_token_expire_days=7, session_max_lifetime_days=1)
    async with running(main.create_app(settings)) as client:
        await client.post("/register", json=ADA)
        assert cookie_of(await client.post("/login", json=ADA))["max-age"] == str(86400)


async def test_a_refresh_replaces_the_cookie(client: httpx.AsyncClient) -> None:
    first = cookie_of(await client.post("/login", json=ADA)).value
    answer = await refresh(client, first, Origin=FRONTEND)
    assert answer.status_code == 200
    assert "refresh_token" not in answer.json()
    assert answer.headers["access-control-allow-origin"] == FRONTEND
    assert answer.headers["access-control-allow-credentials"] == "true"
    second = cookie_of(answer).value
    assert second not in ("", first)
    assert (await refresh(client, second)).status_code == 200


async def test_a_refresh_without_a_cookie_is_a_401(client: httpx.AsyncClient) -> None:
    token = cookie_of(await client.post("/login", json=ADA)).value
    client.cookies.clear()
    for body in ({}, {"refresh_token": token}):
        answer = await client.post("/refresh", json=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "session-revoked")
        assert 'credentials: "include"' in answer.json()["detail"]
    with_cookie = (await refresh(client, "made-up")).json()
    assert with_cookie["code"] == "session-revoked"
    assert "cookie" not in with_cookie["detail"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://shop.example.evil.example"])
async def test_a_page_of_another_origin_can_neither_refresh_nor_log_in(client: httpx.AsyncClient, origin: str) -> None:
    token = cookie_of(await client.post("/login", json=ADA)).value
    for answer in (
        await refresh(client, token, Origin=origin),
        await client.post("/login", data=ADA, headers={"Origin": origin}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "origin-not-allowed")
        assert "set-cookie" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert (await refresh(client, token)).status_code == 200


async def test_a_page_of_the_service_itself_can_log_in(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "https://users.example", "Host": "users.example"}
    assert (await client.post("/login", data=ADA, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/logout", "/logout-all"])
async def test_logging_out_deletes_the_cookie(client: httpx.AsyncClient, path: str) -> None:
    grant = await client.post("/login", json=ADA)
    answer = await client.post(path, headers={"Authorization": f"Bearer {grant.json()['access_token']}"})
    cookie = cookie_of(answer)
    assert (cookie.value, cookie["max-age"], cookie["path"]) == ("", "0", "/refresh")
    assert (await refresh(client, cookie_of(grant).value)).status_code == 401


async def test_the_document_describes_the_mode_in_use(client: httpx.AsyncClient) -> None:
    refresh = (await client.get("/openapi.json")).json()["paths"]["/refresh"]["post"]
    assert "requestBody" not in refresh
    assert "403" in refresh["responses"]


async def test_there_is_no_cookie_by_default(make_settings: MakeSettings) -> None:
    async with running(main.create_app(make_settings())) as client:
        await client.post("/register", json=ADA)
        answer = await client.post("/login", json=ADA, headers={"Origin": "http://localhost:5173"})
        assert "set-cookie" not in answer.headers
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.json()["refresh_token"]
