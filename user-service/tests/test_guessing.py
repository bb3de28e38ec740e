"""Guesses of one account's password from many addresses."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from chassis.rate_limits import IN_MEMORY, RateLimits
from testkit.applications import running
from testkit.throttling import ELSEWHERE, HOME, at, attempt, limited
from testkit.users import PASSWORD, MakeSettings, log_in, sign_up
from user_service.errors import InvalidCredentials
from user_service.main import create_app
from user_service.repositories import networks
from user_service.security import passwords, throttling
from user_service.security.throttling import Throttle

NEW = "192.0.2.77"
"""An address that nothing has come from."""
NEVER = 3600.0
"""A delay that no test waits for."""


async def attempts_from(app: FastAPI, addresses: Sequence[str], username: str = "ada") -> list[int]:
    """Fail once from each address."""
    statuses = []
    for address in addresses:
        async with at(app, address) as client:
            statuses.append(await attempt(client, username))
    return statuses


def strangers(count: int) -> list[str]:
    return [f"198.18.{number // 256}.{number % 256}" for number in range(count)]


async def login_at(app: FastAPI, address: str, username: str = "ada", password: str = PASSWORD) -> httpx.Response:
    async with at(app, address) as client, asyncio.timeout(20):
        return await client.post("/login", json={"username": username, "password": password})


class TestNetworks:
    @pytest.mark.parametrize("setting", ["rate_limit_login", "rate_limit_login_address"])
    async def test_a_household_may_fail_four_times_as_often_as_a_network(
        self, make_settings: MakeSettings, setting: str
    ) -> None:
        async with limited(make_settings, **{setting: "1/minute"}) as (_, app):
            household = [f"2001:db8:0:1{number:02x}::1" for number in range(6)]
            assert await attempts_from(app, household) == [401] * 4 + [429] * 2
            assert await attempts_from(app, ["2001:db8:0:200::1"]) == [401]

    async def test_an_organization_may_fail_sixteen_times_as_often(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login_address="1/minute") as (_, app):
            households = [f"2001:db8:0:{number:02x}00::1" for number in range(18)]
            assert await attempts_from(app, households) == [401] * 16 + [429] * 2
            assert await attempts_from(app, ["2001:db8:1::1"]) == [401]

    async def test_registrations_and_refreshes_count_by_network_too(self, make_settings: MakeSettings) -> None:
        limits = {"rate_limit_register_address": "1/minute", "rate_limit_refresh_address": "1/minute"}
        app = create_app(make_settings(**limits))
        async with running(app):
            requests: list[tuple[str, dict[str, str], int]] = [
                ("/register", {"username": "ada", "password": "short"}, 422),
                ("/refresh", {"refresh_token": "x"}, 401),
            ]
            for path, body, accepted in requests:
                statuses = []
                for number in range(6):
                    async with at(app, f"2001:db8:0:1{number:02x}::1") as member:
                        statuses.append((await member.post(path, json=body)).status_code)
                assert statuses == [accepted] * 4 + [429] * 2


class TestSlowDown:
    @pytest.mark.parametrize("username", ["ada", "nobody"])
    async def test_a_new_address_is_delayed_after_many_failures(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, username: str
    ) -> None:
        monkeypatch.setattr(throttling, "DELAY", 0.4)
        async with limited(make_settings, rate_limit_login_account="3/hour") as (_, app):
            assert await attempts_from(app, strangers(3), username) == [401] * 3
            started = time.monotonic()
            answer = await login_at(app, NEW, username, "wrong")
            assert time.monotonic() - started >= 0.4
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid-credentials")

    async def test_fewer_failures_delay_nobody(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(throttling, "DELAY", NEVER)
        async with limited(make_settings, rate_limit_login_account="3/hour") as (_, app):
            await attempts_from(app, strangers(2))
            await attempts_from(app, strangers(3), "grace")
            assert (await login_at(app, NEW)).status_code == 200

    async def test_the_owner_is_never_delayed_at_a_known_address(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with limited(make_settings, rate_limit_login_account="3/hour") as (client, app):
            ada = await log_in(client, 1, "ada")
            # The address is still known when the session is not.
            await client.post("/logout-all", headers=ada.headers)
            await attempts_from(app, strangers(3))
            monkeypatch.setattr(throttling, "DELAY", 0.01)
            assert (await login_at(app, NEW)).status_code == 200
            # From now on, this address is known as well.
            monkeypatch.setattr(throttling, "DELAY", NEVER)
            for address in (HOME, NEW):
                assert (await login_at(app, address, password="wrong")).status_code == 401
                assert (await login_at(app, address)).status_code == 200

    async def test_a_known_ipv6_network_is_known_as_a_whole(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(throttling, "DELAY", NEVER)
        async with limited(make_settings, rate_limit_login_account="3/hour") as (_, app):
            assert (await login_at(app, "2001:db8::1")).status_code == 200
            await attempts_from(app, strangers(3))
            assert (await login_at(app, "2001:db8::2")).status_code == 200

    async def test_each_new_address_has_three_attempts(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(throttling, "DELAY", 0.01)
        async with limited(make_settings, rate_limit_login_account="3/hour") as (client, app):
            await log_in(client, 1, "ada")
            # Another account has used it.
            await sign_up(client, "bob")
            assert (await login_at(app, NEW, "bob")).status_code == 200
            await attempts_from(app, strangers(3))
            assert await attempts_from(app, [NEW] * 5) == [401] * 3 + [429] * 2
            assert 540 < int((await login_at(app, NEW)).headers["retry-after"]) <= 600
            # It has three others for another account.
            await attempts_from(app, strangers(3), "grace")
            assert await attempts_from(app, [NEW], "grace") == [401]
            # Neither another new address is locked, nor a known one.
            assert (await login_at(app, ELSEWHERE)).status_code == 200
            assert await attempts_from(app, [HOME] * 5) == [401] * 5
            assert (await login_at(app, HOME)).status_code == 200

    async def test_an_attempt_that_starts_again_is_delayed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(throttling, "DELAY", 0.0)
        logins = Throttle(RateLimits(IN_MEMORY), "login", "9/minute", "off", suspicious="1/hour")
        with pytest.raises(InvalidCredentials):
            async with logins.attempt(NEW, "ada"):
                raise InvalidCredentials
        async with logins.attempt(NEW, "ada") as again:
            # It takes one of its three places.
            for _ in range(4):
                await logins.slow_down(again)

    async def test_few_attempts_are_delayed_at_a_time(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(throttling, "DELAY", NEVER)
        monkeypatch.setattr(throttling, "MAX_DELAYED", 2)
        async with (
            limited(make_settings, rate_limit_login_account="3/hour") as (client, app),
            AsyncExitStack() as stack,
        ):
            await log_in(client, 1, "ada")
            await attempts_from(app, strangers(3))
            delayed = []
            for address in strangers(2):
                stranger = await stack.enter_async_context(at(app, address))
                delayed.append(asyncio.create_task(attempt(stranger)))
            logins = app.state.services.sessions._logins
            async with asyncio.timeout(20):
                while logins._delayed < 2:  # noqa: ASYNC110 - nothing else tells.
                    await asyncio.sleep(0.01)
            answer = await login_at(app, NEW)
            assert (answer.status_code, answer.json()["code"]) == (503, "passwords-busy")
            assert (await login_at(app, HOME)).status_code == 200
            for task in delayed:
                task.cancel()
            await asyncio.gather(*delayed, return_exceptions=True)
            assert logins._delayed == 0

    @pytest.mark.parametrize(("username", "user_id"), [("ada", 1), ("nobody", None)])
    async def test_many_failures_are_audited_once(
        self,
        make_settings: MakeSettings,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        username: str,
        user_id: int | None,
    ) -> None:
        monkeypatch.setattr(throttling, "DELAY", 0.01)
        async with limited(make_settings, rate_limit_login_account="4/hour") as (_, app):
            await attempts_from(app, strangers(3), username)
            assert "many passwords refused" not in caplog.text
            await attempts_from(app, strangers(4), username)
        [event] = [record.msg for record in caplog.records if "many passwords refused" in record.getMessage()]
        assert isinstance(event, dict)
        assert event.get("account_id") == user_id
        assert (event["ip"], event["failures"], event["seconds"]) == (strangers(4)[0], 4, 3600)
        assert "nobody" not in str(event)


class TestKnownNetworks:
    async def test_the_latest_networks_are_kept(
        self, make_settings: MakeSettings, database: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(networks, "MAX_NETWORKS", 2)
        async with limited(make_settings) as (client, app):
            await sign_up(client, "bob")
            for address in (*strangers(1), NEW):
                assert (await login_at(app, address, "bob")).status_code == 200
            for address in (HOME, ELSEWHERE, HOME, NEW):
                assert (await login_at(app, address)).status_code == 200
        assert known_networks(database) == {HOME, NEW, *strangers(1)}

    async def test_a_network_is_forgotten_after_90_days_and_with_the_account(
        self, make_settings: MakeSettings, database: Engine
    ) -> None:
        async with limited(make_settings) as (client, app):
            for address in (HOME, ELSEWHERE):
                assert (await login_at(app, address)).status_code == 200
            with database.begin() as connection:
                connection.execute(
                    text("UPDATE known_networks SET last_login_at = '2020-01-01' WHERE network = :ip"), {"ip": HOME}
                )
            assert await app.state.services.sessions.purge(500) == 1
            assert known_networks(database) == {ELSEWHERE}
            ada = await log_in(client, 1, "ada")
            answer = await client.post("/me/delete", json={"current_password": PASSWORD}, headers=ada.headers)
            assert answer.status_code == 204
        assert known_networks(database) == set()


def known_networks(database: Engine) -> set[str]:
    with database.connect() as connection:
        return set(connection.execute(text("SELECT network FROM known_networks")).scalars())


async def test_guesses_of_strangers_do_not_keep_out_known_addresses(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The guesses take longer than the queue timeout, also on a large machine.
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    app = create_app(make_settings(bcrypt_cost=10, password_queue_timeout=1.0))
    async with running(app), at(app, HOME) as client, AsyncExitStack() as stack:
        await sign_up(client)
        guessing = [await stack.enter_async_context(at(app, address)) for address in strangers(60)]
        burst = asyncio.gather(*(attempt(stranger) for stranger in guessing))
        await asyncio.sleep(0.1)
        assert not burst.done()
        assert await attempt(client, "ada", PASSWORD) == 200
        assert set(await burst) == {401, 503}


async def test_logins_of_one_client_do_not_keep_out_other_clients(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The logins of the client succeed, and take longer than the queue timeout, also on a large machine.
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    limits = {"rate_limit_login": "100/minute", "rate_limit_login_address": "off"}
    async with (
        running(app := create_app(make_settings(bcrypt_cost=10, password_queue_timeout=1.0, **limits))),
        at(app, HOME) as client,
        at(app, "2001:db8::1") as flooding,
        at(app, "2001:db8:0:1::1") as flooding_too,
    ):
        await sign_up(client)
        await log_in(client, 1, "ada")
        await sign_up(flooding, "bob")
        await log_in(flooding_too, 2, "bob")
        burst = asyncio.gather(*(attempt(each, "bob", PASSWORD) for each in [flooding, flooding_too] * 25))
        await asyncio.sleep(0.1)
        assert not burst.done()
        assert await attempt(client, "ada", PASSWORD) == 200
        assert 503 in await burst


async def test_new_passwords_of_one_client_do_not_keep_out_other_clients(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly_refuse(*_: object) -> bool:
        time.sleep(0.1)
        return True

    async def change_password(client: httpx.AsyncClient, headers: Mapping[str, str]) -> int:
        change = {"current_password": PASSWORD, "new_password": "a fjord of quinces"}
        return (await client.post("/me/password", json=change, headers=headers)).status_code

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    app = create_app(make_settings(password_queue_timeout=60))
    async with running(app), at(app, HOME) as client, at(app, ELSEWHERE) as flooding:
        ada, bob = await sign_up(client), await sign_up(flooding, "bob")
        monkeypatch.setattr(passwords, "is_guessable", slowly_refuse)
        burst = asyncio.gather(*(change_password(flooding, bob.headers) for _ in range(30)))
        await asyncio.sleep(0.1)
        assert await change_password(client, ada.headers) == 422
        assert not burst.done()
        assert set(await burst) == {422}
