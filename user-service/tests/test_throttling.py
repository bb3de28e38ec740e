"""Throttling of logins, registrations and refreshes."""

import asyncio
from typing import Any

import httpx
import pytest

from testkit.applications import running
from testkit.throttling import ELSEWHERE, HOME, at, attempt, attempts, limited
from testkit.users import PASSWORD, MakeSettings, Person, log_in, sign_up
from user_service.main import create_app
from user_service.security.passwords import Passwords
from user_service.security.refresh_tokens import RefreshToken


class TestLogin:
    async def test_too_many_failures_get_a_429_with_retry_after(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="3/minute") as (client, _):
            assert await attempts(client, "ada", "ADA", "Ada") == [401] * 3
            answer = await client.post("/login", data={"username": "ada", "password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (429, "too-many-attempts")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "www-authenticate" not in answer.headers

    async def test_a_login_after_retry_after_succeeds(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="2/second") as (client, _):
            await attempts(client, "ada", "ada", "ada")
            answer = await client.post("/login", json={"username": "ada", "password": PASSWORD})
            if answer.status_code == 429:
                await asyncio.sleep(int(answer.headers["retry-after"]))
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_an_attacker_cannot_lock_out_the_owner(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="3/minute", rate_limit_login_address="5/minute") as (
            client,
            app,
        ):
            async with at(app, ELSEWHERE) as stranger:
                assert await attempts(stranger, *["ada"] * 7) == [401] * 3 + [429] * 4
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_another_account_at_the_same_address_is_not_limited(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="2/minute") as (client, _):
            assert await attempts(client, "ada", "ada", "ada", "grace") == [401, 401, 429, 401]

    async def test_a_successful_login_resets_the_count_of_the_account(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="3/minute") as (client, _):
            for _ in range(3):
                assert await attempts(client, "ada", "ada") == [401, 401]
                assert await attempt(client, "ada", PASSWORD) == 200

    async def test_a_successful_login_does_not_reset_the_count_of_the_address(
        self, make_settings: MakeSettings
    ) -> None:
        async with limited(make_settings, rate_limit_login_address="2/minute") as (client, _):
            assert await attempts(client, "grace") == [401]
            # Otherwise an attacker with one account could reset it at will.
            assert await attempt(client, "ada", PASSWORD) == 200
            assert await attempts(client, "grace", "linus") == [401, 429]

    async def test_one_address_cannot_try_many_accounts(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login_address="4/minute") as (client, app):
            assert await attempts(client, *(f"name-{number}" for number in range(6))) == [401] * 4 + [429] * 2
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
            # NAT64
            ("64:ff9b::203.0.113.9", "203.0.113.9", 429),
            ("64:ff9b::203.0.113.9", "64:ff9b::203.0.113.8", 401),
            ("64:ff9b:1::203.0.113.9", "64:ff9b:1::203.0.113.8", 401),
            # 6to4 and Teredo
            ("2002:cb00:7109:1::1", "2002:cb00:7109:2::1", 429),
            ("2001:0:cb00:7101::ff:34ff:8ef6", "203.0.113.9", 429),
            ("2001:0:cb00:7101::ff:34ff:8ef6", "2001:0:cb00:7101::ff:34ff:8ef7", 401),
        ],
    )
    async def test_an_ipv6_network_counts_as_one_address(
        self, make_settings: MakeSettings, one: str, other: str, status: int
    ) -> None:
        async with limited(make_settings, rate_limit_login_address="1/minute") as (_, app):
            async with at(app, one) as client:
                assert await attempt(client) == 401
            async with at(app, other) as client:
                assert await attempt(client) == status

    async def test_concurrent_logins_cannot_exceed_the_limit(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="5/minute") as (client, _):
            statuses = await asyncio.gather(*(attempt(client) for _ in range(20)))
        assert sorted(statuses) == [401] * 5 + [429] * 15

    async def test_concurrent_logins_that_succeed_are_not_limited(self, make_settings: MakeSettings) -> None:
        limits = {"rate_limit_login": "2/minute", "rate_limit_login_address": "3/minute"}
        async with limited(make_settings, **limits) as (client, _):
            assert await attempt(client) == 401
            statuses = await asyncio.gather(*(attempt(client, "ada", PASSWORD) for _ in range(15)))
            assert statuses == [200] * 15
            assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]

    async def test_an_attempt_waits_for_those_in_flight_only_briefly(
        self, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, proceed, verify = asyncio.Event(), asyncio.Event(), Passwords.verify

        async def slow_verify(*arguments: Any, **options: Any) -> Any:
            begun.set()
            await proceed.wait()
            return await verify(*arguments, **options)

        settings = {"rate_limit_login": "1/minute", "password_queue_timeout": 0.1}
        async with limited(make_settings, **settings) as (client, _):
            monkeypatch.setattr(Passwords, "verify", slow_verify)
            first = asyncio.create_task(attempt(client, "ada", PASSWORD))
            await begun.wait()
            answer = await client.post("/login", json={"username": "ada", "password": PASSWORD})
            assert (answer.status_code, answer.json()["code"]) == (503, "passwords-busy")
            proceed.set()
            assert await first == 200
            # A rejected attempt does not count.
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_retry_after_covers_every_limit(self, make_settings: MakeSettings) -> None:
        limits = {"rate_limit_login": "2/second; 2/hour", "rate_limit_register": "1/second; 1/hour"}
        async with limited(make_settings, **limits) as (client, _):
            ada = {"username": "ada", "password": PASSWORD}
            assert await attempts(client, "ada", "ada") == [401, 401]
            for path in ("/login", "/register"):
                answer = await client.post(path, json=ada)
                assert answer.status_code == 429
                assert int(answer.headers["retry-after"]) > 3000

    async def test_several_limits_apply_together(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="2/second; 3/hour") as (client, _):
            assert await attempts(client, "ada", "ada") == [401, 401]
            await asyncio.sleep(1.1)
            assert await attempts(client, "ada", "ada") == [401, 429]

    async def test_rejected_attempts_do_not_use_up_a_longer_limit(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login="4/hour; 2/second") as (client, _):
            assert await attempts(client, *["ada"] * 8) == [401] * 2 + [429] * 6
            await asyncio.sleep(1.1)
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_password_checks_of_other_endpoints_count_as_logins(self, make_settings: MakeSettings) -> None:
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
            # Endpoints without a password check are not limited.
            assert (await client.get("/me", headers=ada.headers)).status_code == 200


class TestOtherCalls:
    async def test_registrations_are_limited_by_address_and_username(self, make_settings: MakeSettings) -> None:
        limits = {"rate_limit_register": "2/minute", "rate_limit_register_address": "5/minute"}
        async with limited(make_settings, **limits) as (client, _):

            async def register(name: str) -> int:
                return (await client.post("/register", json={"username": name, "password": PASSWORD})).status_code

            # ada's registration already counts as one.
            assert [await register(name) for name in ("grace", "Grace", "GRACE")] == [201, 409, 429]
            assert [await register(name) for name in ("lin", "hedy")] == [201, 429]
            assert await attempt(client, "ada", PASSWORD) == 200

    async def test_refreshes_are_limited_by_session_and_address(self, make_settings: MakeSettings) -> None:
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

    async def test_forged_tokens_do_not_use_up_the_limit_of_a_session(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_refresh="2/minute") as (client, _):
            ada = await log_in(client, 1, "ada")
            for _ in range(4):
                forged = RefreshToken.generate(RefreshToken.parse(ada.refresh_token).session_id).format()
                assert (await client.post("/refresh", json={"refresh_token": forged})).status_code == 401
            answer = await client.post("/refresh", json={"refresh_token": ada.refresh_token})
            assert answer.status_code == 200

    async def test_a_limited_refresh_revokes_nothing(self, make_settings: MakeSettings) -> None:
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
    async def test_x_forwarded_for_from_a_client_is_ignored(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, rate_limit_login_address="2/minute") as (client, _):
            for number, status in enumerate([401, 401, 429]):
                client.headers["X-Forwarded-For"] = f"198.51.100.{number}"
                assert await attempt(client) == status

    async def test_only_the_address_added_by_a_trusted_proxy_counts(self, make_settings: MakeSettings) -> None:
        settings = {"rate_limit_login_address": "1/minute", "trusted_proxies": "10.0.0.0/8, 192.0.2.1"}
        async with limited(make_settings, **settings) as (_, app), at(app, "10.1.2.3") as proxy:
            for forwarded, status in [
                (HOME, 401),
                (ELSEWHERE, 401),
                # The client sent the first address itself. In the second case, one proxy forwards to another.
                (f"1.2.3.4, {HOME}", 429),
                (f"1.2.3.4, {HOME}, 192.0.2.1", 429),
                ("1.2.3.4", 401),
            ]:
                proxy.headers["X-Forwarded-For"] = forwarded
                assert await attempt(proxy) == status, forwarded

    async def test_a_session_stores_the_address_from_the_trusted_proxy(self, make_settings: MakeSettings) -> None:
        async with limited(make_settings, trusted_proxies="10.0.0.1") as (_, app), at(app, "10.0.0.1") as proxy:
            proxy.headers["X-Forwarded-For"] = ELSEWHERE
            ada = await log_in(proxy, 1, "ada")
            [session] = (await proxy.get("/sessions", headers=ada.headers)).json()
        assert session["ip"] == ELSEWHERE


class TestSettings:
    @pytest.mark.parametrize("limit", ["ten", "10", "0/minute", "10/", "10/fortnight", "-1/minute", "10/minute; x"])
    def test_an_invalid_limit_prevents_startup(self, make_settings: MakeSettings, limit: str) -> None:
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
    def test_an_invalid_storage_url_prevents_startup(self, make_settings: MakeSettings, url: str) -> None:
        with pytest.raises(ValueError, match="must be memory://"):
            make_settings(rate_limit_storage_url=url)

    @pytest.mark.parametrize("proxies", ["*", "proxy.example", "10.0.0.0/33", "10.0.0.5/8"])
    def test_an_invalid_proxy_address_prevents_startup(self, make_settings: MakeSettings, proxies: str) -> None:
        with pytest.raises(ValueError, match=r"must be like 10\.0\.0\.5 or 10\.0\.0\.0/8"):
            make_settings(trusted_proxies=proxies)


async def test_a_burst_of_logins_is_shed_and_delays_no_other_request(make_settings: MakeSettings) -> None:
    app = create_app(make_settings(bcrypt_cost=11, password_queue_timeout=0.5))
    async with running(app) as client:
        ada: Person = await sign_up(client)
        burst = asyncio.gather(
            *(client.post("/login", json={"username": "ada", "password": PASSWORD}) for _ in range(60))
        )
        await asyncio.sleep(0.05)
        # Requests without a password check are not delayed.
        assert (await client.get("/me", headers=ada.headers)).status_code == 200
        assert not burst.done()
        answers = await burst
        assert {answer.status_code for answer in answers} == {200, 503}
        rejected = next(answer for answer in answers if answer.status_code == 503)
        assert rejected.json()["code"] == "passwords-busy"
        assert int(rejected.headers["retry-after"]) >= 1
        # After the burst, logins work again.
        assert await attempt(client, "ada", PASSWORD) == 200
