"""Use of database connections, on both databases."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from testkit.users import PASSWORD, sign_up

OPEN_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""


@pytest.mark.parametrize("path", ["/register", "/login"])
async def test_no_connection_is_held_while_a_password_is_hashed(
    app: FastAPI, client: httpx.AsyncClient, database: Engine, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.post("/register", json={"username": "ada", "password": PASSWORD})
    # A new application reads the costs of the stored hashes, in the background.
    if learning := [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "learn_costs"]:
        await asyncio.wait(learning)
    services = app.state.services
    pools = [engine.pool for engine in (services.database._read_engine, services.database._write_engine)]
    queue = services._passwords._strangers
    hashing = queue.run_for
    held: list[int] = []

    async def watched(*arguments: Any) -> Any:
        task = asyncio.ensure_future(hashing(*arguments))
        while not task.done():
            held.append(sum(pool.checkedout() for pool in pools))
            if database.dialect.name == "postgresql":
                with database.connect() as connection:
                    held.append(connection.execute(text(OPEN_TRANSACTIONS)).scalar_one())
            await asyncio.sleep(0.001)
        return task.result()

    monkeypatch.setattr(queue, "run_for", watched)
    answer = await client.post(path, json={"username": "grace" if path == "/register" else "ada", "password": PASSWORD})
    assert answer.status_code in (200, 201)
    assert held
    assert set(held) == {0}


async def test_a_registration_waits_for_an_uncommitted_username(client: httpx.AsyncClient, database: Engine) -> None:
    ada = await sign_up(client, "ada")
    with database.connect() as other:
        if database.dialect.name == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        other.execute(text("UPDATE users SET username = 'grace', username_key = 'grace'"))
        waiting = asyncio.create_task(client.post("/register", json={"username": "Grace", "password": PASSWORD}))
        # Reads are not blocked, and don't see the uncommitted change.
        assert (await client.get("/me", headers=ada.headers)).json()["username"] == "ada"
        assert not waiting.done()
        other.commit()
    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (409, "username-taken")
