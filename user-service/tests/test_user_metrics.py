"""Logins, refreshes and revoked sessions are counted."""

import asyncio
import os
import threading

import httpx
import pytest
from sqlalchemy import Engine

from chassis.metrics import Counter
from testkit.metrics import Increase, increases
from testkit.throttling import attempt, limited
from testkit.users import PASSWORD, MakeSettings, Person, an_admin, log_in, sign_up
from user_service.metrics import LOGINS, REFRESHES, SESSIONS_REVOKED

NEW_PASSWORD = "another correct horse battery"
CHANGE = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}


def counts(increase: Increase, counter: Counter) -> dict[str, float]:
    """The values of the label of a counter that have increased, and by how much."""
    [(label, values)] = counter.labels.items()
    return {value: number for value in values if (number := increase(counter.name, **{label: value}))}


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/refresh", json={"refresh_token": token})


async def three_sessions(client: httpx.AsyncClient) -> Person:
    ada = await sign_up(client)
    for _ in range(2):
        await log_in(client, ada.user_id, "ada")
    return ada


async def test_logins_are_counted_by_outcome(make_settings: MakeSettings) -> None:
    async with limited(make_settings, rate_limit_login="1/hour") as (client, _):
        with increases() as increase:
            statuses = [await attempt(client, password=each) for each in (PASSWORD, "wrong", PASSWORD)]
            assert statuses == [200, 401, 429]
            assert counts(increase, LOGINS) == {"succeeded": 1, "refused": 1, "throttled": 1}


async def test_a_login_that_waits_in_vain_for_a_thread_is_counted(make_settings: MakeSettings) -> None:
    async with limited(make_settings, password_queue_timeout=0.01) as (client, app):
        proceed = threading.Event()
        threads = app.state.services._passwords._threads
        working = [asyncio.ensure_future(threads.run(proceed.wait)) for _ in range(os.cpu_count() or 1)]
        await asyncio.sleep(0)
        with increases() as increase:
            assert await attempt(client) == 503
            assert counts(increase, LOGINS) == {"unavailable": 1}
            assert increase("thread_pool_rejections_total", pool="passwords") == 1
        proceed.set()
        await asyncio.gather(*working)


async def test_refreshes_are_counted_by_outcome_and_reuse_is_one(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    with increases() as increase:
        second = (await refresh(client, ada.refresh_token)).json()["refresh_token"]
        await refresh(client, second)
        assert (await refresh(client, "no token")).status_code == 401
        assert counts(increase, REFRESHES) == {"succeeded": 2, "refused": 1}
        assert (await refresh(client, ada.refresh_token)).json()["code"] == "session-revoked"
        assert counts(increase, REFRESHES) == {"succeeded": 2, "refused": 1, "reuse_detected": 1}
        assert counts(increase, SESSIONS_REVOKED) == {"refresh_token_reused": 1}


async def test_throttled_refreshes_are_counted(make_settings: MakeSettings) -> None:
    async with limited(make_settings, rate_limit_refresh_address="1/hour") as (client, _):
        with increases() as increase:
            assert [(await refresh(client, "no token")).status_code for _ in range(2)] == [401, 429]
            assert counts(increase, REFRESHES) == {"refused": 1, "throttled": 1}


@pytest.mark.parametrize(
    ("reason", "method", "path", "body", "sessions"),
    [
        ("logged_out", "POST", "/logout", None, 1),
        ("logged_out_everywhere", "POST", "/logout-all", None, 3),
        ("revoked_by_user", "DELETE", "/sessions/1", None, 1),
        ("password_changed", "POST", "/me/password", CHANGE, 2),
        ("account_deleted", "POST", "/me/delete", {"current_password": PASSWORD}, 3),
    ],
)
async def test_sessions_that_their_user_revokes_are_counted(
    client: httpx.AsyncClient, reason: str, method: str, path: str, body: object, sessions: int
) -> None:
    ada = await three_sessions(client)
    with increases() as increase:
        answer = await client.request(method, path, json=body, headers=ada.headers)
        assert answer.status_code == 204, answer.text
        assert counts(increase, SESSIONS_REVOKED) == {reason: sessions}


@pytest.mark.parametrize(
    ("reason", "method", "path", "body", "sessions"),
    [
        ("revoked_by_admin", "DELETE", "/users/1/sessions", None, 3),
        ("revoked_by_admin", "DELETE", "/users/1/sessions/1", None, 1),
        ("password_changed", "POST", "/users/1/password", {"new_password": NEW_PASSWORD}, 3),
        ("account_disabled", "PATCH", "/users/1", {"is_active": False}, 3),
        ("account_deleted", "DELETE", "/users/1", None, 3),
    ],
)
async def test_sessions_that_an_admin_revokes_are_counted(
    client: httpx.AsyncClient,
    database: Engine,
    reason: str,
    method: str,
    path: str,
    body: object,
    sessions: int,
) -> None:
    await three_sessions(client)
    admin = await an_admin(client, database)
    with increases() as increase:
        answer = await client.request(method, path, json=body, headers=admin.headers)
        assert answer.is_success, answer.text
        assert counts(increase, SESSIONS_REVOKED) == {reason: sessions}


async def test_the_oldest_session_that_a_login_revokes_is_counted(make_settings: MakeSettings) -> None:
    async with limited(make_settings, max_sessions_per_user=2) as (client, _):
        with increases() as increase:
            assert [await attempt(client, password=PASSWORD) for _ in range(5)] == [200] * 5
            assert counts(increase, SESSIONS_REVOKED) == {"too_many_sessions": 3}


async def test_a_second_logout_revokes_nothing(client: httpx.AsyncClient) -> None:
    ada = await sign_up(client)
    body = {"refresh_token": ada.refresh_token}
    with increases() as increase:
        assert [(await client.post("/logout", json=body)).status_code for _ in range(2)] == [204, 401]
        assert counts(increase, SESSIONS_REVOKED) == {"logged_out": 1}
