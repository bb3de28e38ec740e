"""Token requests as OAuth2 clients send them: forms, grant types, and errors of RFC 6749."""

from typing import Any

import httpx
import pytest

from testkit.applications import running
from testkit.users import PASSWORD, MakeSettings, sign_up
from user_service.main import create_app

ADA = {"username": "ada", "password": PASSWORD}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def oauth2_error(answer: httpx.Response) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert "www-authenticate" not in answer.headers
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["title"]) == (400, "Bad Request")
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


@pytest.mark.parametrize(
    "extra",
    [
        {"audience": "https://shop.example"},
        {"resource": "https://shop.example/products"},
        {"nonce": "n-0S6_WzA2Mj"},
        {"anything": "else", "refresh_token": "unused"},
        {"grant_type": "password", "scope": "", "client_id": "", "client_secret": ""},
        {"grant_type": ""},
    ],
)
async def test_unknown_and_empty_parameters_are_ignored(client: httpx.AsyncClient, extra: dict[str, str]) -> None:
    await sign_up(client)
    assert (await client.post("/login", data={**ADA, **extra})).status_code == 200


@pytest.mark.parametrize("form", ["{}&", "&{}", "&&{}&&", "remember&{}", "{}&scope"])
async def test_a_form_is_parsed_like_a_url_query(client: httpx.AsyncClient, form: str) -> None:
    await sign_up(client)
    content = form.format(f"username=ada&password={PASSWORD.replace(' ', '+')}")
    assert (await client.post("/login", content=content, headers=FORM)).status_code == 200


@pytest.mark.parametrize(
    ("content", "code", "error"),
    [
        ("username=ada&password=wrong", "invalid-credentials", "invalid_grant"),
        ("username=nobody&password=wrong", "invalid-credentials", "invalid_grant"),
        ("grant_type=refresh_token&refresh_token=wrong", "session-revoked", "invalid_grant"),
        ("grant_type=client_credentials&username=ada&password=wrong", "unsupported-grant-type", None),
        ("grant_type=authorization_code&code=x", "unsupported-grant-type", None),
        ("grant_type=Password&username=ada&password=wrong", "unsupported-grant-type", None),
        ("", "validation-failed", "invalid_request"),
        ("username=ada", "validation-failed", "invalid_request"),
        ("username=ada&password=", "validation-failed", "invalid_request"),
        ("grant_type=refresh_token", "validation-failed", "invalid_request"),
        ("username=ada&username=eve&password=wrong", "malformed-body", "invalid_request"),
        ("username=ada&password=%ff", "malformed-body", "invalid_request"),
    ],
)
async def test_an_error_in_a_form_is_an_oauth2_error(
    client: httpx.AsyncClient, content: str, code: str, error: str | None
) -> None:
    await sign_up(client)
    body = oauth2_error(await client.post("/login", content=content, headers=FORM))
    assert (body["code"], body["error"]) == (code, error or "unsupported_grant_type")


async def test_the_right_password_with_another_grant_type_gets_no_token(client: httpx.AsyncClient) -> None:
    await sign_up(client)
    grant = {**ADA, "grant_type": "client_credentials"}
    assert oauth2_error(await client.post("/login", data=grant))["error"] == "unsupported_grant_type"
    as_json = await client.post("/login", json=grant)
    assert (as_json.status_code, as_json.json()["code"]) == (422, "unsupported-grant-type")
    assert [error["pointer"] for error in as_json.json()["errors"]] == ["/grant_type"]


@pytest.mark.parametrize("path", ["/login", "/refresh"])
@pytest.mark.parametrize("kind", ["data", "json"])
async def test_a_refresh_token_grant_works_as_form_and_json(client: httpx.AsyncClient, path: str, kind: str) -> None:
    person = await sign_up(client)
    body = {"grant_type": "refresh_token", "refresh_token": person.refresh_token}
    answer = await client.post(path, **{kind: body})  # type: ignore[arg-type]
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["refresh_token"] != person.refresh_token
    sessions = await client.get("/sessions", headers={"Authorization": f"Bearer {answer.json()['access_token']}"})
    assert len(sessions.json()) == 1


async def test_a_refresh_needs_no_grant_type_and_takes_no_other(client: httpx.AsyncClient) -> None:
    person = await sign_up(client)
    for grant_type in ("password", "client_credentials"):
        grant = {"grant_type": grant_type, "refresh_token": person.refresh_token, **ADA}
        assert oauth2_error(await client.post("/refresh", data=grant))["error"] == "unsupported_grant_type"
    form = {"refresh_token": person.refresh_token, "scope": "everything", "client_id": "frontend"}
    assert (await client.post("/refresh", data=form)).status_code == 200
    assert oauth2_error(await client.post("/refresh", data={"refresh_token": "old"}))["error"] == "invalid_grant"
    assert oauth2_error(await client.post("/refresh", data={"token": "x"}))["error"] == "invalid_request"


async def test_errors_that_oauth2_does_not_define_are_problems(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(rate_limit_login="1/minute"))) as client:
        await client.post("/login", data={"username": "ada", "password": "wrong"})
        limited = await client.post("/login", data={"username": "ada", "password": "wrong"})
    assert (limited.status_code, limited.headers["content-type"]) == (429, "application/problem+json")


async def test_the_cookie_mode_has_no_refresh_grant_at_login(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(refresh_token_cookie=True))) as client:
        await client.post("/register", json=ADA)
        assert (await client.post("/login", data={**ADA, "grant_type": "password"})).status_code == 200
        answer = await client.post("/login", data={"grant_type": "refresh_token", "refresh_token": "x"})
    assert oauth2_error(answer)["error"] == "unsupported_grant_type"
