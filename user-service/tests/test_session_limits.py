"""SESSION_MAX_LIFETIME_DAYS and MAX_SESSIONS_PER_USER."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, func, select, update

from testkit.applications import running
from testkit.users import PASSWORD, MakeSettings, Person, log_in, sign_up
from user_service.main import create_app
from user_service.models import Session

DAY = timedelta(days=1)


def move_login(database: Engine, ago: timedelta) -> None:
    """Make every session as old as this."""
    with database.begin() as connection:
        connection.execute(update(Session).values(created_at=datetime.now(UTC) - ago))


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/refresh", json={"refresh_token": token})


async def session_of(client: httpx.AsyncClient, access_token: str) -> dict[str, Any]:
    answer = await client.get("/sessions", headers={"Authorization": f"Bearer {access_token}"})
    (session,) = [each for each in answer.json() if each["current"]]
    found: dict[str, Any] = session
    return found


async def statuses(client: httpx.AsyncClient, *people: Person) -> list[int]:
    return [(await client.get("/me", headers=each.headers)).status_code for each in people]


def lifetime(session: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(session["expires_at"]) - datetime.fromisoformat(session["created_at"])


async def test_a_refresh_never_extends_a_session_beyond_its_maximum_lifetime(
    make_settings: MakeSettings, database: Engine
) -> None:
    settings = make_settings(refresh_token_expire_days=7, session_max_lifetime_days=10)
    async with running(create_app(settings)) as client:
        ada = await sign_up(client)
        assert lifetime(await session_of(client, ada.token)) == 7 * DAY
        move_login(database, 5 * DAY)
        answer = (await refresh(client, ada.refresh_token)).json()
        assert lifetime(await session_of(client, answer["access_token"])) == 10 * DAY
        # The limit may be newer than the session, which the last refresh has extended by 7 days.
        move_login(database, 10 * DAY + timedelta(seconds=1))
        last = await refresh(client, answer["refresh_token"])
        assert (last.status_code, last.json()["code"]) == (401, "session-revoked")


async def test_a_short_maximum_lifetime_applies_from_the_login_on(make_settings: MakeSettings) -> None:
    settings = make_settings(refresh_token_expire_days=30, session_max_lifetime_days=1)
    async with running(create_app(settings)) as client:
        ada = await sign_up(client)
        assert lifetime(await session_of(client, ada.token)) == DAY


async def test_an_access_token_expires_with_its_session_at_the_latest(
    make_settings: MakeSettings, database: Engine
) -> None:
    settings = make_settings(session_max_lifetime_days=10, access_token_expire_minutes=60)
    async with running(create_app(settings)) as client:
        ada = await sign_up(client)
        move_login(database, 10 * DAY - timedelta(minutes=10))
        # The second refresh repeats the first one, as after a lost response.
        for _ in range(2):
            tokens = (await refresh(client, ada.refresh_token)).json()
            assert 60 < tokens["expires_in"] <= 600
            session = await session_of(client, tokens["access_token"])
            validated = (await client.post("/validate-token", json={"token": tokens["access_token"]})).json()
            end, expires_at = (datetime.fromisoformat(each["expires_at"]) for each in (session, validated))
            assert end - timedelta(seconds=2) < expires_at <= end


async def test_the_first_access_token_expires_with_its_session_at_the_latest(make_settings: MakeSettings) -> None:
    settings = make_settings(session_max_lifetime_days=1, access_token_expire_minutes=24 * 60)
    async with running(create_app(settings)) as client:
        ada = await sign_up(client)
        validated = (await client.post("/validate-token", json={"token": ada.token})).json()
        session = await session_of(client, ada.token)
        assert datetime.fromisoformat(validated["expires_at"]) <= datetime.fromisoformat(session["expires_at"])


async def test_sessions_are_extended_without_end_by_default(client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client)
    move_login(database, 4000 * DAY)
    answer = (await refresh(client, ada.refresh_token)).json()
    assert lifetime(await session_of(client, answer["access_token"])) > 4029 * DAY


async def test_a_login_beyond_the_maximum_revokes_the_oldest_session(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(create_app(make_settings(max_sessions_per_user=2))) as client:
        grace, oldest = await sign_up(client, "grace"), await sign_up(client, "ada")
        kept = await log_in(client, oldest.user_id, "ada")
        # A refresh doesn't make a session younger.
        renewed = (await refresh(client, oldest.refresh_token)).json()
        revoked = (await session_of(client, renewed["access_token"]))["id"]
        caplog.clear()
        newest = await log_in(client, oldest.user_id, "ada")
        audited = [
            each.msg for each in caplog.records if isinstance(each.msg, dict) and each.name == "audit.user_service"
        ]
        assert [line["event"] for line in audited] == ["logged in", "session revoked"]
        assert (audited[1]["account_id"], audited[1]["session_id"]) == (oldest.user_id, revoked)
        assert await statuses(client, oldest, kept, newest, grace) == [401, 200, 200, 200]


async def test_concurrent_logins_leave_the_maximum_of_sessions(make_settings: MakeSettings, database: Engine) -> None:
    async with running(create_app(make_settings(max_sessions_per_user=2))) as client:
        await sign_up(client)
        login = {"username": "ada", "password": PASSWORD}
        answers = await asyncio.gather(*(client.post("/login", json=login) for _ in range(6)))
        assert {answer.status_code for answer in answers} == {200}
    with database.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Session)).scalar_one() == 2


async def test_expired_sessions_do_not_count(make_settings: MakeSettings, database: Engine) -> None:
    async with running(create_app(make_settings(max_sessions_per_user=2))) as client:
        ada = await sign_up(client)
        expired = await log_in(client, ada.user_id, "ada")
        session_id = (await session_of(client, expired.token))["id"]
        with database.begin() as connection:
            connection.execute(update(Session).where(Session.id == session_id).values(expires_at=Session.created_at))
        newest = await log_in(client, ada.user_id, "ada")
        assert await statuses(client, ada, expired, newest) == [200, 401, 200]


@pytest.mark.parametrize("name", ["session_max_lifetime_days", "max_sessions_per_user"])
@pytest.mark.parametrize("value", [0, -1, 100_000, "off"])
def test_limits_outside_their_bounds_are_rejected(make_settings: MakeSettings, name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        make_settings(**{name: value})
