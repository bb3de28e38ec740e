"""Refreshes from another address or by another client, and what the audit log says about them."""

from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from testkit.library import logged
from testkit.throttling import ELSEWHERE, HOME, at
from testkit.users import PASSWORD, sign_up

PHONE, THIEF = "a phone", "a script"


async def refresh(app: FastAPI, address: str, token: str, agent: str | None = PHONE, path: str = "/refresh") -> Any:
    async with at(app, address) as client:
        if agent is None:
            del client.headers["user-agent"]
        else:
            client.headers["user-agent"] = agent
        return await client.post(path, data={"grant_type": "refresh_token", "refresh_token": token})


async def first_token(app: FastAPI) -> str:
    async with at(app, HOME) as client:
        return (await sign_up(client)).refresh_token


@pytest.mark.parametrize("path", ["/refresh", "/login"])
@pytest.mark.parametrize(
    ("address", "agent", "event"),
    [
        (HOME, PHONE, "session refreshed"),
        (
            HOME,
            THIEF,
            "session refreshed",
        ),  # Another program behind the same address, such as a second browser that shares a session.
        (ELSEWHERE, PHONE, "session refreshed"),  # A phone that has lost its WiFi, and with it the response.
        (ELSEWHERE, THIEF, "refresh token reused"),
        (ELSEWHERE, None, "refresh token reused"),
    ],
)
async def test_the_grace_is_for_the_client_that_replaced_the_token(
    app: FastAPI, database: Engine, path: str, address: str, agent: str | None, event: str
) -> None:
    token = await first_token(app)
    replaced = await refresh(app, HOME, token, path=path)
    with logged() as log:
        again = await refresh(app, address, token, agent, path)
    (line,) = [line for line in log.lines if line.get("audit")]
    with database.connect() as connection:
        sessions = connection.execute(text("SELECT count(*) FROM sessions")).scalar_one()
    assert (line["message"], line["ip"]) == (event, address)
    if event == "session refreshed":
        assert again.json()["refresh_token"] == replaced.json()["refresh_token"]
        assert (line["new_address"], sessions) == (address == ELSEWHERE, 1)
    else:
        assert (again.status_code, again.json()["error"], sessions) == (400, "invalid_grant", 0)
    assert token not in log.text


async def test_two_clients_without_a_user_agent_are_told_apart_by_their_address(app: FastAPI) -> None:
    token = await first_token(app)
    assert (await refresh(app, HOME, token, None)).status_code == 200
    assert (await refresh(app, ELSEWHERE, token, None)).status_code == 400


async def test_the_grace_of_a_session_refreshed_before_the_update_is_for_every_client(
    app: FastAPI, database: Engine
) -> None:
    token = await first_token(app)
    await refresh(app, HOME, token)
    with database.begin() as connection:
        connection.execute(text("UPDATE sessions SET refresh_ip = NULL, refresh_user_agent = NULL"))
    assert (await refresh(app, ELSEWHERE, token, THIEF)).status_code == 200


async def test_a_user_agent_of_any_length_is_recognised(app: FastAPI) -> None:
    token, agent = await first_token(app), "a\tphone" + "!" * 300
    assert (await refresh(app, HOME, token, agent)).status_code == 200
    assert (await refresh(app, ELSEWHERE, token, agent)).status_code == 200


async def test_a_refresh_from_a_new_address_is_flagged_once(app: FastAPI) -> None:
    token = await first_token(app)
    with logged() as log:
        for address in (HOME, ELSEWHERE, ELSEWHERE, HOME, "2001:db8::1"):
            token = (await refresh(app, address, token)).json()["refresh_token"]
    lines = [line for line in log.lines if line.get("audit")]
    assert {(line["message"], line["account_id"], line["session_id"]) for line in lines} == {
        ("session refreshed", 1, 1)
    }
    assert [(line["ip"], line["new_address"]) for line in lines] == [
        (HOME, False),
        (ELSEWHERE, True),
        (ELSEWHERE, False),
        (HOME, False),
        ("2001:db8::1", True),
    ]
    assert PASSWORD not in log.text
    assert token not in log.text
