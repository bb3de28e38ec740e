"""What the user service does with its database connections, on both databases."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text
from user_support import PASSWORD

from user_service.passwords import Passwords

OPEN_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""


@pytest.mark.parametrize("path", ["/register", "/login"])
async def test_no_connection_is_held_while_a_password_is_hashed(
    app: FastAPI, client: httpx.AsyncClient, database: Engine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.post("/register", json={"username": "ada", "password": PASSWORD})
    accounts = app.state.accounts
    pools = [lane.engine.pool for unit in (accounts._read,) for lane in lanes_of(unit.run)]
    hashing = Passwords._run
    held: list[int] = []

    async def watched(self: Passwords, work: Callable[[], Any]) -> Any:
        task = asyncio.ensure_future(hashing(self, work))
        while not task.done():
            held.append(sum(pool.checkedout() for pool in pools))
            if database.dialect.name == "postgresql":
                with database.connect() as connection:
                    held.append(connection.execute(text(OPEN_TRANSACTIONS)).scalar_one())
            await asyncio.sleep(0.001)
        return task.result()

    monkeypatch.setattr(Passwords, "_run", watched)
    answer = await client.post(path, json={"username": "grace" if path == "/register" else "ada", "password": PASSWORD})
    assert answer.status_code in (200, 201)
    assert held
    assert set(held) == {0}


def lanes_of(read: Any) -> list[Any]:
    """The reads and the writes of the database that this method belongs to."""
    return [read.__self__._reads, read.__self__._writes]


async def test_a_name_that_somebody_else_is_about_to_take_is_waited_for(
    client: httpx.AsyncClient, database: Engine
) -> None:
    await client.post("/register", json={"username": "ada", "password": PASSWORD})
    with database.connect() as other:
        if database.dialect.name == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        other.execute(text("UPDATE users SET username = 'grace', username_key = 'grace'"))
        waiting = asyncio.create_task(client.post("/register", json={"username": "Grace", "password": PASSWORD}))
        # Public reads go on meanwhile, and see nothing of it.
        assert (await client.post("/login", json={"username": "ada", "password": PASSWORD})).status_code == 200
        assert not waiting.done()
        other.commit()
    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (409, "username-taken")
