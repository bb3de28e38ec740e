"""Purging of expired sessions, in batches and by several processes."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from chassis.database import purge
from testkit.applications import running
from testkit.users import MakeSettings, sign_up
from user_service import main
from user_service.main import create_app

EXPIRED = """
INSERT INTO sessions (user_id, created_at, last_used_at, expires_at, family_hash, refresh_hash)
SELECT user_id, created_at, last_used_at, created_at, family_hash, refresh_hash FROM sessions
"""


def count(database: Engine) -> int:
    with database.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM sessions")).scalar_one())


def add_expired(database: Engine) -> None:
    """Add 31 expired sessions beside the active one."""
    with database.begin() as connection:
        for _ in range(5):
            connection.execute(text(EXPIRED))


async def test_only_expired_sessions_are_deleted_in_batches(
    app: FastAPI, client: httpx.AsyncClient, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "BATCH", 10)
    batches: list[int] = []
    delete_batch = app.state.services.sessions.purge

    async def counted(limit: int) -> int:
        batches.append(await delete_batch(limit))
        return batches[-1]

    ada = await sign_up(client)
    add_expired(database)
    assert await purge.purge(counted) == 31
    assert batches == [10, 10, 10, 1]
    assert count(database) == 1
    assert (await client.get("/me", headers=ada.headers)).status_code == 200


async def test_concurrent_purges_delete_each_session_once(
    make_settings: MakeSettings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "BATCH", 3)
    one, other = create_app(make_settings()), create_app(make_settings())
    async with running(one) as client, running(other):
        await sign_up(client)
        add_expired(database)
        deleted = await asyncio.gather(*(purge.purge(app.state.services.sessions.purge) for app in (one, other)))
        # A batch that skips rows locked by the other process is small and ends the purge; the next purge does the rest.
        deleted.append(await purge.purge(one.state.services.sessions.purge))
    assert sum(deleted) == 31
    assert count(database) == 1


async def test_the_service_purges_periodically_and_survives_an_outage(
    make_settings: MakeSettings, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "PURGE_INTERVAL", 0.05)
    async with running(create_app(make_settings())) as client:
        await sign_up(client)
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE sessions RENAME TO away"))
        await asyncio.sleep(0.2)
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO sessions"))
        add_expired(database)
        async with asyncio.timeout(10):
            while count(database) > 1:  # noqa: ASYNC110 - the database sends no event.
                await asyncio.sleep(0.02)
