"""`/forward-auth`, which gateways ask."""

import httpx
import pytest
from sqlalchemy import Engine, text

from testkit.users import sign_up

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PATHS = [
    "/forward-auth",
    "/forward-auth/",
    "/forward-auth/a/b%2Fc",
    "/forward-auth/products/7?limit=20&limit=x",
    "/forward-auth/%00/%E9/..?x=%FF&=&&%00",
]


@pytest.mark.parametrize("path", PATHS)
async def test_every_method_path_and_query_tells_who_the_caller_is(client: httpx.AsyncClient, path: str) -> None:
    ada = await sign_up(client)
    session = (await client.get("/sessions", headers=ada.headers)).json()[0]["id"]
    for method in METHODS:
        answer = await client.request(method, path, headers=ada.headers, content=b"{" if method == "POST" else None)
        assert (answer.status_code, answer.content) == (200, b"")
        assert {name: value for name, value in answer.headers.items() if name.startswith("x-auth-")} == {
            "x-auth-user-id": str(ada.user_id),
            "x-auth-username": "ada",
            "x-auth-roles": "user",
            "x-auth-session-id": str(session),
        }
        assert answer.headers["cache-control"] == "no-store"
    assert (await client.head(path, headers=ada.headers)).headers["x-auth-username"] == "ada"


async def test_admins_have_both_roles(client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client)
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET is_admin = :yes"), {"yes": True})
    answer = await client.get("/forward-auth", headers=ada.headers)
    assert answer.headers["x-auth-roles"] == "user,admin"


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_valid_token_no_method_passes(client: httpx.AsyncClient, path: str) -> None:
    ada = await sign_up(client)
    await client.post("/logout", headers=ada.headers)
    for method in METHODS:
        for headers, challenge in ((ada.headers, 'Bearer error="invalid_token"'), ({}, "Bearer")):
            answer = await client.request(method, path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, challenge)
            assert not [name for name in answer.headers if name.startswith("x-auth-")]


async def test_a_preflight_for_another_application_does_not_pass(client: httpx.AsyncClient) -> None:
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "DELETE"}
    assert (await client.options("/products/1", headers=preflight)).status_code == 200
    answer = await client.options("/forward-auth/products/1", headers=preflight)
    assert answer.status_code == 401
    assert "access-control-allow-origin" not in answer.headers


async def test_what_a_client_says_about_itself_is_not_believed(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    claimed = {
        f"{prefix}User{separator}Id": "999" for prefix in ("X-Auth-", "X_Auth_", "X.Auth.") for separator in "-_."
    }
    answer = await client.get("/forward-auth", headers={**ada.headers, **claimed, "X-Auth-Roles": "user,admin"})
    assert answer.headers.get_list("x-auth-user-id") == [str(ada.user_id)]
    assert answer.headers.get_list("x-auth-roles") == ["user"]
    assert "999" not in str(answer.headers)


async def test_a_database_that_is_away_is_no_refusal(client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE users RENAME TO elsewhere"))
    try:
        answer = await client.get("/forward-auth", headers=ada.headers)
    finally:
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO users"))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
