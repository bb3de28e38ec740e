"""`POST /introspect` (RFC 7662)."""

import base64
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
from sqlalchemy import Engine, text

from testkit.applications import running
from testkit.users import MakeSettings, sign_up
from user_service.main import create_app

SERVICE_KEY = "a-key-of-a-gateway+with/reserved=characters"
CLIENT = ("gateway", SERVICE_KEY)
INACTIVE = {"active": False}


async def test_an_active_token_has_the_claims_of_the_rfc(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    answer = await client.post("/introspect", data={"token": ada.token})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    claims: dict[str, Any] = answer.json()
    session = (await client.get("/sessions", headers=ada.headers)).json()[0]["id"]
    assert claims.pop("exp") - claims.pop("iat") == 15 * 60
    assert claims == {
        "active": True,
        "sub": str(ada.user_id),
        "username": "ada",
        "scope": "user",
        "token_type": "Bearer",
        "iss": "user-service",
        "aud": "services",
        "sid": session,
    }


async def test_the_scope_has_all_roles(client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client)
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET is_admin = :yes"), {"yes": True})
    assert (await client.post("/introspect", data={"token": ada.token})).json()["scope"] == "user admin"


async def test_anything_else_is_inactive_and_says_nothing_more(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    grace = await sign_up(client, "grace")
    await client.post("/logout", headers=ada.headers)
    for token in (ada.token, grace.refresh_token, "x", "x" * 15_000, "\u00e9"):
        answer = await client.post("/introspect", data={"token": token})
        assert (answer.status_code, answer.json()) == (200, INACTIVE)


async def test_hints_and_unknown_fields_are_ignored(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    form = {"token": ada.token, "token_type_hint": "refresh_token", "resource": "x", "client_id": "y"}
    assert (await client.post("/introspect", data=form)).json()["active"] is True


@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token_type_hint": "access_token"}])
async def test_a_request_without_a_token_is_an_error(client: httpx.AsyncClient, form: dict[str, str]) -> None:
    answer = await client.post("/introspect", data=form or None, headers={"Content-Type": FORM})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


FORM = "application/x-www-form-urlencoded"


async def test_the_form_may_name_its_encoding(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    headers = {"Content-Type": f"{FORM}; charset=UTF-8"}
    assert (await client.post("/introspect", data={"token": ada.token}, headers=headers)).json()["active"] is True


async def test_a_token_in_the_query_or_sent_twice_is_an_error(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    body = {"token": ada.token}
    for query, form in ((body, {"token": "x"}), ({}, {"token": [ada.token, "x"]})):
        answer = await client.post("/introspect", params=query, data=form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert ada.token not in answer.text


async def test_a_body_in_json_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/introspect", json={"token": "x"})).status_code == 415


async def test_a_database_that_is_away_is_no_inactive_token(client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE users RENAME TO elsewhere"))
    try:
        answer = await client.post("/introspect", data={"token": ada.token})
    finally:
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO users"))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "active" not in answer.json()


def basic(name: str, key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{key}'.encode()).decode()}"}


@pytest.mark.parametrize(
    "headers",
    [
        basic(*CLIENT),
        basic(*map(quote_plus, CLIENT)),
        {"authorization": basic(*CLIENT)["Authorization"].replace("B", "b", 1)},
    ],
    ids=["plain", "encoded", "lower case"],
)
async def test_a_client_with_a_service_key_is_answered(make_settings: MakeSettings, headers: dict[str, str]) -> None:
    async with running(create_app(make_settings(service_keys=f"gateway:{SERVICE_KEY}"))) as client:
        ada = await sign_up(client)
        answer = await client.post("/introspect", data={"token": ada.token}, headers=headers)
        assert answer.json()["active"] is True


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("gateway", "wrong"),
        basic("another", SERVICE_KEY),
        basic("", SERVICE_KEY),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": f"Basic {base64.b64encode(bytes([255, 254])).decode()}"},
        {"Authorization": f"Bearer {SERVICE_KEY}"},
        {"X-Service-Key": SERVICE_KEY},
    ],
)
async def test_other_clients_are_told_how_to_authenticate(make_settings: MakeSettings, headers: dict[str, str]) -> None:
    async with running(create_app(make_settings(service_keys=f"gateway:{SERVICE_KEY}"))) as client:
        ada = await sign_up(client)
        answer = await client.post("/introspect", data={"token": ada.token}, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Basic realm="user-service"'
        assert (answer.json()["error"], answer.json()["code"]) == ("invalid_client", "invalid-client")
        assert answer.json()["status"] == 401


async def test_the_client_is_checked_before_the_body_is_read(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(service_keys=f"gateway:{SERVICE_KEY}"))) as client:
        answer = await client.post("/introspect", content=b"x" * 20_000, headers={"Content-Type": FORM})
        assert answer.status_code == 401
