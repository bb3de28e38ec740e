"""Logging out: with an access token, with a refresh token, and as OAuth2's token revocation (RFC 7009)."""

import logging

import httpx
import pytest
from sqlalchemy import Engine, text

from testkit.applications import running
from testkit.users import MakeSettings, Person, log_in, sign_up
from user_service.main import create_app
from user_service.security.refresh_tokens import RefreshToken

EXPIRED = {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.expired"}


async def is_active(client: httpx.AsyncClient, person: Person) -> bool:
    return (await client.get("/me", headers=person.headers)).status_code == 200


@pytest.mark.parametrize("headers", [{}, EXPIRED], ids=["no access token", "expired access token"])
async def test_a_refresh_token_logs_out_without_an_access_token(
    client: httpx.AsyncClient, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    ada = await sign_up(client)
    other = await log_in(client, ada.user_id, "ada")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        answer = await client.post("/logout", json={"refresh_token": ada.refresh_token}, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert not await is_active(client, ada)
    assert await is_active(client, other)
    assert (await client.post("/refresh", json={"refresh_token": ada.refresh_token})).status_code == 401
    session_id = RefreshToken.parse(ada.refresh_token).session_id
    (audited,) = [
        each.msg for each in caplog.records if isinstance(each.msg, dict) and each.name == "audit.user_service"
    ]
    assert (audited["event"], audited["account_id"], audited["session_id"]) == ("logged out", ada.user_id, session_id)
    assert ada.refresh_token not in caplog.text


async def test_a_replaced_refresh_token_logs_out_too(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    await client.post("/refresh", json={"refresh_token": ada.refresh_token})
    assert (await client.post("/logout", json={"refresh_token": ada.refresh_token})).status_code == 204
    assert not await is_active(client, ada)


async def test_the_refresh_token_in_the_body_decides(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    other = await log_in(client, ada.user_id, "ada")
    body = {"refresh_token": other.refresh_token}
    assert (await client.post("/logout", json=body, headers=ada.headers)).status_code == 204
    assert (await is_active(client, ada), await is_active(client, other)) == (True, False)
    again = await client.post("/logout", json=body, headers=ada.headers)
    assert (again.status_code, again.json()["code"]) == (401, "session-revoked")
    assert await is_active(client, ada)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"refresh_token": null}'])
async def test_without_a_refresh_token_the_access_token_counts(client: httpx.AsyncClient, content: bytes) -> None:
    ada = await sign_up(client)
    headers = {"Content-Type": "application/json"}
    anonymous = await client.post("/logout", content=content, headers=headers)
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "not-authenticated")
    assert (await client.post("/logout", content=content, headers={**headers, **EXPIRED})).status_code == 401
    assert (await client.post("/logout", content=content, headers={**headers, **ada.headers})).status_code == 204
    assert not await is_active(client, ada)


@pytest.mark.parametrize("body", [{"refresh_token": 1}, {"token": "x"}, {"refresh_token": "x" * 101}, []])
async def test_an_invalid_body_revokes_nothing(client: httpx.AsyncClient, body: object) -> None:
    ada = await sign_up(client)
    assert (await client.post("/logout", json=body, headers=ada.headers)).status_code == 422
    assert await is_active(client, ada)


def guess(token: str) -> str:
    """A token with the session's id, but of another family."""
    return RefreshToken.generate(RefreshToken.parse(token).session_id).format()


async def test_a_guessed_refresh_token_revokes_nothing(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    for token in ("made-up", guess(ada.refresh_token), ada.token[:80]):
        answer = await client.post("/logout", json={"refresh_token": token})
        assert (answer.status_code, answer.json()["code"]) == (401, "session-revoked")
        assert (await client.post("/revoke", data={"token": token})).status_code == 200
    assert await is_active(client, ada)


@pytest.mark.parametrize("hint", [{}, {"token_type_hint": "access_token"}, {"token_type_hint": "unknown", "x": "y"}])
@pytest.mark.parametrize("kind", ["token", "refresh_token"])
async def test_revoking_a_token_revokes_its_session(client: httpx.AsyncClient, kind: str, hint: dict[str, str]) -> None:
    ada = await sign_up(client)
    other = await log_in(client, ada.user_id, "ada")
    answer = await client.post("/revoke", data={"token": getattr(ada, kind), **hint})
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await is_active(client, ada), await is_active(client, other)) == (False, True)
    assert (await client.post("/refresh", json={"refresh_token": ada.refresh_token})).status_code == 401
    # A token that is invalid already is no error: RFC 7009, section 2.2.
    assert (await client.post("/revoke", data={"token": getattr(ada, kind)})).status_code == 200


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"", "application/x-www-form-urlencoded", 400),
        (b"token=", "application/x-www-form-urlencoded", 400),
        (b"token=x&token=y", "application/x-www-form-urlencoded", 400),
        (b'{"token": "x"}', "application/json", 415),
    ],
)
async def test_an_invalid_revocation_is_an_error(
    client: httpx.AsyncClient, content: bytes, media_type: str, status: int
) -> None:
    answer = await client.post("/revoke", content=content, headers={"Content-Type": media_type})
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"] == "invalid_request"


async def test_revocations_count_as_refreshes(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(rate_limit_refresh_address="2/minute"))) as client:
        statuses = [(await client.post("/logout", json={"refresh_token": "made-up"})).status_code]
        statuses += [(await client.post("/revoke", data={"token": "made-up"})).status_code for _ in range(2)]
    assert statuses == [401, 200, 429]


async def test_an_expired_session_is_deleted_all_the_same(client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client)
    with database.begin() as connection:
        connection.execute(text("UPDATE sessions SET expires_at = created_at"))
    assert (await client.post("/logout", json={"refresh_token": ada.refresh_token})).status_code == 204
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sessions")).scalar_one() == 0
