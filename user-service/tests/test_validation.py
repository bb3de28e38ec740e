"""`POST /validate-token`, tested against the contract, and `GET /me`."""

import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from sqlalchemy import Engine, event, text

from testkit.applications import running
from testkit.users import KEY, MakeSettings, Person, sign_up
from user_service.main import create_app
from user_service.security.access_tokens import Tokens

CONTRACT: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "contracts" / "validate-token.json").read_text(encoding="utf-8")
)


SERVICE_KEY = "a-key-of-the-product-service-for-tests"


async def prepare(given: str, client: httpx.AsyncClient, database: Engine) -> str:
    """Set up the state that the contract gives, and return the token to validate."""
    ada = await sign_up(client, "ada")
    with database.begin() as connection:
        match given:
            case "a token of an account that is active" | "a service that does not show its key":
                return ada.token
            case "a token that has expired":
                an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
                return Tokens([KEY], timedelta(minutes=15)).issue(ada.user_id, 1, an_hour_ago)
            case "a token that is not valid yet":
                in_an_hour = datetime.now(UTC) + timedelta(hours=1)
                return Tokens([KEY], timedelta(minutes=15)).issue(ada.user_id, 1, in_an_hour)
            case "a token that was not issued here":
                return Tokens([KEY[::-1]], timedelta(minutes=15)).issue(ada.user_id, 1, datetime.now(UTC))
            case "a token of a revoked session":
                connection.execute(text("DELETE FROM sessions"))
                return ada.token
            case "a token of an account that was deleted":
                connection.execute(text("DELETE FROM users WHERE username = 'ada'"))
                return ada.token
            case "a token of an account that was disabled":
                connection.execute(text("UPDATE users SET is_active = :no"), {"no": False})
                return ada.token
            case "a token of 16 KiB":
                return "x" * 16 * 1024
            case "a body without a token":
                return ""
            case "a database that cannot be reached":
                connection.execute(text("ALTER TABLE users RENAME TO elsewhere"))
                return ada.token
    raise AssertionError(f"unknown state in the contract: {given}")


@pytest.fixture
async def contract_client(make_settings: MakeSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a user service that requires a service key."""
    async with running(create_app(make_settings(service_keys=f"product-service:{SERVICE_KEY}"))) as client:
        yield client


async def validate(client: httpx.AsyncClient, token: str, **changes: Any) -> httpx.Response:
    """Send the request of the contract, with these changes, for this token."""
    request = {**CONTRACT["request"], **changes}
    headers, body = (
        {name: {"TOKEN": token, "SERVICE_KEY": SERVICE_KEY}.get(value, value) for name, value in request[part].items()}
        for part in ("headers", "body")
    )
    return await client.request(request["method"], request["path"], headers=headers, content=json.dumps(body))


def checked_body(answer: httpx.Response, interaction: dict[str, Any]) -> dict[str, Any]:
    """Check status and headers of a response against the contract, and return its body."""
    assert answer.status_code == interaction["status"], answer.text
    assert answer.headers.items() >= {name.lower(): value for name, value in interaction["headers"].items()}.items()
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("interaction", CONTRACT["interactions"], ids=lambda each: each["given"])
async def test_responses_match_the_contract(
    contract_client: httpx.AsyncClient, database: Engine, interaction: dict[str, Any]
) -> None:
    token = await prepare(interaction["given"], contract_client, database)
    body = checked_body(await validate(contract_client, token), interaction)
    jsonschema.Draft202012Validator(CONTRACT["schema"]).validate(body)
    # An example can't know when the token expires.
    assert body | {"expires_at": ...} == interaction["body"] | {"expires_at": ...}


@pytest.mark.parametrize("refusal", CONTRACT["refusals"], ids=lambda each: each["given"])
@pytest.mark.alone
async def test_errors_match_the_contract(
    contract_client: httpx.AsyncClient, database: Engine, refusal: dict[str, Any]
) -> None:
    token = await prepare(refusal["given"], contract_client, database)
    body = checked_body(await validate(contract_client, token, **refusal.get("request", {})), refusal)
    # Callers rely on these fields of a problem only.
    assert {name: body[name] for name in refusal["body"]} == refusal["body"]
    assert "valid" not in body


@pytest.mark.parametrize(("leeway", "valid"), [(30, True), (0, False)])
async def test_a_replica_may_be_ahead_by_the_leeway(make_settings: MakeSettings, *, leeway: int, valid: bool) -> None:
    async with running(create_app(make_settings(clock_leeway_seconds=leeway))) as client:
        ada = await sign_up(client, "ada")
        in_15_seconds = datetime.now(UTC) + timedelta(seconds=15)
        token = Tokens([KEY], timedelta(minutes=15)).issue(ada.user_id, 1, in_15_seconds)
        answer = await client.post("/validate-token", json={"token": token})
    assert answer.json()["valid"] is valid


async def test_roles_match_the_contract(contract_client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(contract_client, "ada")
    of_a_user, of_an_admin = CONTRACT["schema"]["oneOf"][0]["properties"]["roles"]["examples"]
    assert (await validate(contract_client, ada.token)).json()["roles"] == of_a_user
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET is_admin = :yes"), {"yes": True})
    assert (await validate(contract_client, ada.token)).json()["roles"] == of_an_admin


async def test_a_response_has_the_expiry_of_the_token(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client, "ada")
    answer = await client.post("/validate-token", json={"token": ada.token})
    expires_at = datetime.fromisoformat(answer.json()["expires_at"])
    assert timedelta(minutes=14, seconds=50) < expires_at - datetime.now(UTC) <= timedelta(minutes=15)


@pytest.mark.parametrize(
    "token", ["", " ", "x", "a.b.c", "..", "\x00", "{}", "Bearer x", "é" * 100, "a" * 10_000, "💥", "null"]
)
async def test_any_other_text_gets_a_200_with_valid_false(client: httpx.AsyncClient, token: str) -> None:
    answer = await client.post("/validate-token", json={"token": token})
    assert answer.status_code == 200
    assert answer.json() == {"valid": False, "message": "The token is malformed, or was not issued here."}


@pytest.mark.parametrize("body", [{}, {"token": None}, {"token": 1}, {"token": ["x"]}, {"token": "x", "y": 1}, [], "x"])
async def test_any_other_body_is_a_422(client: httpx.AsyncClient, body: object) -> None:
    assert (await client.post("/validate-token", json=body)).status_code == 422


async def test_more_than_16_kib_is_a_413_problem(client: httpx.AsyncClient) -> None:
    fits = await client.post("/validate-token", json={"token": "x" * (16 * 1024 - len('{"token":""}'))})
    too_much = await client.post("/validate-token", json={"token": "x" * 16 * 1024})
    assert fits.status_code == 200
    assert too_much.status_code == 413
    assert too_much.headers["content-type"] == "application/problem+json"


async def test_a_validation_runs_one_query_and_no_write(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client, "ada")
    statements: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", remember)
    try:
        answer = await client.post("/validate-token", json={"token": ada.token})
    finally:
        event.remove(Engine, "before_cursor_execute", remember)
    assert answer.json()["valid"] is True
    assert len(statements) == 1
    assert statements[0].startswith("SELECT")


@pytest.mark.alone
async def test_a_database_outage_is_a_503_and_not_an_invalid_token(client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client, "ada")
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE users RENAME TO elsewhere"))
    answer = await client.post("/validate-token", json={"token": ada.token})
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_tokens_and_passwords_are_not_logged(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ada = await sign_up(client, "ada")
        await client.post("/validate-token", json={"token": ada.token})
        await client.get("/me", headers=ada.headers)
    assert ada.token.rpartition(".")[2] not in caplog.text
    assert "battery" not in caplog.text


class TestMe:
    async def test_it_returns_the_account_of_the_token(self, client: httpx.AsyncClient) -> None:
        ada = await sign_up(client, "ada")
        await sign_up(client, "grace")
        answer = await client.get("/me", headers=ada.headers)
        assert answer.status_code == 200
        assert (answer.json()["id"], answer.json()["username"]) == (ada.user_id, "ada")

    @pytest.mark.parametrize(
        ("authorization", "challenge"),
        [
            (None, "Bearer"),
            ("", "Bearer"),
            ("Basic YWRhOng=", "Bearer"),
            ("Bearer", "Bearer"),
            ("Bearer a b", "Bearer"),
            ("Bearer ä", 'Bearer error="invalid_token"'),
            ("Bearer not.a.token", 'Bearer error="invalid_token"'),
            ("bearer " + "x" * 9000, 'Bearer error="invalid_token"'),
        ],
    )
    async def test_a_missing_or_invalid_token_is_a_401(
        self, client: httpx.AsyncClient, authorization: str | None, challenge: str
    ) -> None:
        headers = {} if authorization is None else {b"Authorization": authorization.encode()}
        answer = await client.get("/me", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == challenge

    @pytest.mark.parametrize(
        "statement", ["DELETE FROM users WHERE username = 'ada'", "UPDATE users SET is_active = false"]
    )
    async def test_a_token_is_invalid_without_an_active_account(
        self, client: httpx.AsyncClient, database: Engine, statement: str
    ) -> None:
        ada = await sign_up(client, "ada")
        with database.begin() as connection:
            connection.execute(text(statement))
        assert (await client.get("/me", headers=ada.headers)).status_code == 401

    async def test_a_new_account_of_the_same_username_inherits_nothing(
        self, client: httpx.AsyncClient, database: Engine
    ) -> None:
        ada = await sign_up(client, "ada")
        with database.begin() as connection:
            connection.execute(text("DELETE FROM users"))
        again: Person = await sign_up(client, "ada")
        assert again.user_id > ada.user_id
        assert (await client.get("/me", headers=ada.headers)).status_code == 401
        assert (await client.get("/me", headers=again.headers)).json()["id"] == again.user_id
