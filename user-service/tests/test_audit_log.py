"""Audit lines for what clients try, and for what admins read."""

from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from testkit.applications import running
from testkit.library import Log, logged
from testkit.throttling import ELSEWHERE, HOME, at, attempts, limited
from testkit.users import KEY, PASSWORD, MakeSettings, an_admin, sign_up
from user_service import audit
from user_service.main import create_app

SERVICE_KEY = KEY.decode().replace(" ", "-")


def audited(log: Log) -> list[dict[str, Any]]:
    return [line for line in log.lines if line.get("audit")]


@pytest.mark.sqlite
async def test_throttled_attempts_have_one_line_per_client_and_operation(make_settings: MakeSettings) -> None:
    limits = {"rate_limit_login": "1/minute", "rate_limit_register_address": "1/minute"}
    async with limited(make_settings, **limits) as (client, app), at(app, ELSEWHERE) as another:
        with logged("ERROR") as log:
            assert await attempts(client, *["ada"] * 4) == [401, 429, 429, 429]
            assert await attempts(another, *["ada"] * 3) == [401, 429, 429]
            for name in ("grace", "ada"):
                answer = await client.post("/register", json={"username": name, "password": PASSWORD})
                assert answer.status_code == 429
    lines = [line for line in audited(log) if line["message"] == "attempts throttled"]
    assert [(line["operation"], line["ip"], line["left_out"]) for line in lines] == [
        ("login", HOME, 0),
        ("login", ELSEWHERE, 2),
        ("register", HOME, 0),
    ]
    assert {line["account_id"] for line in lines} == {None}
    assert all(line["request_id"] for line in lines)


@pytest.mark.sqlite
async def test_throttled_refreshes_and_password_checks_are_audited(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(rate_limit_refresh="1/minute", rate_limit_login="1/minute"))) as client:
        ada = await sign_up(client)
        with logged() as log:
            for _ in range(2):
                await client.post("/refresh", json={"refresh_token": ada.refresh_token})
                await client.post("/me/delete", json={"current_password": "wrong"}, headers=ada.headers)
    events = [(line["message"], line.get("operation")) for line in audited(log)]
    assert events[2:] == [("attempts throttled", "refresh"), ("attempts throttled", "login")]


@pytest.mark.sqlite
async def test_refused_service_keys_are_audited(make_settings: MakeSettings) -> None:
    settings = make_settings(service_keys=f"products:{SERVICE_KEY}")
    async with running(create_app(settings)) as client:
        with logged() as log:
            for key in ("hunter2", "hunter2" * 10, SERVICE_KEY):
                await client.post("/validate-token", json={"token": "x"}, headers={"X-Service-Key": key})
            await client.post("/validate-token", json={"token": "x"})
    (line,) = audited(log)
    assert (line["message"], line["account_id"], line["ip"]) == ("service key refused", None, "127.0.0.1")
    assert "hunter2" not in log.text
    assert SERVICE_KEY not in log.text


def test_a_flood_of_events_has_few_lines_which_count_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("user_service.audit.time.monotonic", lambda: now)
    flood = audit.Flood("rain")
    with logged() as log:
        for number in range(1000):
            flood.log(f"10.0.0.{number}")
            now += audit.REPEAT_AFTER / 1001
            flood.log(f"10.0.0.{number}")
        assert len(audited(log)) == audit.MAX_CLIENTS
        now += audit.REPEAT_AFTER / 1000
        flood.log("10.0.0.1")
    last, *_ = reversed(audited(log))
    assert (last["ip"], last["left_out"]) == ("10.0.0.1", 2000 - 2 * audit.MAX_CLIENTS + 1)
    assert sum(line["left_out"] for line in audited(log)) + len(audited(log)) == 2001


async def test_what_an_admin_reads_of_other_accounts_is_audited(client: httpx.AsyncClient, database: Engine) -> None:
    root, ada, bob = await an_admin(client, database), await sign_up(client), await sign_up(client, "bob")
    with logged() as log:
        for path in ("/users", "/users?q=b", "/users?q=chief", "/users?q=nobody", "/users?limit=2"):
            assert (await client.get(path, headers=root.headers)).status_code == 200
        for user_id in (ada.user_id, root.user_id, 999):
            for path in (f"/users/{user_id}", f"/users/{user_id}/sessions"):
                await client.get(path, headers=root.headers)
        for path in ("/users", f"/users/{root.user_id}", f"/users/{root.user_id}/sessions"):
            assert (await client.get(path, headers=ada.headers)).status_code == 403
    lines = [(line["message"], line["account_id"], line.get("account_ids")) for line in audited(log)]
    assert lines == [
        ("accounts listed", None, [ada.user_id, bob.user_id]),
        ("accounts listed", None, [bob.user_id]),
        ("accounts listed", None, [ada.user_id]),
        ("account shown", ada.user_id, None),
        ("sessions listed", ada.user_id, None),
    ]
    assert {line["by"] for line in audited(log)} == {root.user_id}
