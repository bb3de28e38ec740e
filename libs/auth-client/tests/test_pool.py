"""The connections of the client: which are reused, which are discarded, and who may see a token."""

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from auth_client import pool
from auth_client.caller import Caller
from auth_client.client import AuthClient
from auth_client.errors import AuthUnavailable
from testkit.faulty_user_service import FaultyUserService, Request, answer, valid
from testkit.library import logged
from testkit.user_service_stub import ADA, UserServiceStub

CERTIFICATE = Path(__file__).parent / "files" / "localhost.pem"
"""A self-signed certificate for localhost, and its key. It is valid for a hundred years."""


async def test_connections_are_reused(client: AuthClient, user_service: UserServiceStub) -> None:
    for _ in range(5):
        await client.validate(ADA)
    assert len({headers["x-test-client-port"] for _, headers in user_service.requests}) == 1


async def test_no_connection_is_reused_after_one_of_them_timed_out() -> None:
    """As when a host vanishes: nothing closes its connections, and each would cost a whole timeout."""
    together = asyncio.Barrier(2)
    silent = asyncio.Event()

    async def script(request: Request) -> None:
        if silent.is_set() and request.connection <= 2:
            await asyncio.sleep(60)
        if not silent.is_set():
            await together.wait()  # So that each call has a connection of its own.
        await request.send(answer(valid()))

    async with FaultyUserService(script) as user_service:
        client = AuthClient(user_service.url, timeout=0.3)
        await asyncio.gather(client.validate(ADA), client.validate(ADA))
        assert user_service.connections == 2
        silent.set()
        with pytest.raises(AuthUnavailable):
            await client.validate(ADA)
        assert (await client.validate(ADA)).user_id == 1
        assert user_service.connections == 3
        await client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
async def test_a_new_instance_behind_the_same_name_gets_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are replaced while they are in use, and no call fails or is repeated."""
    monkeypatch.setattr(pool, "MAX_AGE", 1)
    monkeypatch.setattr(pool, "DNS_CACHE_TTL", 0)
    addresses = ["127.0.0.1"]
    getaddrinfo = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> list[Any]:
        names = addresses if host == "user-service.test" else [host]
        return [found for name in names for found in getaddrinfo(name, *args, **kwargs)]

    async def script(request: Request) -> None:
        await asyncio.sleep(0.005)
        await request.send(answer(valid()))

    stopping = asyncio.Event()

    async def call() -> None:
        while not stopping.is_set():
            await client.validate(ADA)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with logged() as log:
        async with (
            FaultyUserService(script) as first,
            FaultyUserService(script, host="127.0.0.2", port=first.port) as new,
        ):
            client = AuthClient(f"http://user-service.test:{first.port}", timeout=10)
            async with asyncio.TaskGroup() as callers:
                for _ in range(5):
                    callers.create_task(call())
                async with asyncio.timeout(30):
                    while first.connections < 20:
                        await client.validate(ADA)
                    assert new.requests == 0
                    addresses.append("127.0.0.2")
                    while new.requests < 50:
                        await client.validate(ADA)
                stopping.set()
            await client.close()
    calls = [line for line in log.lines if line["message"] == "called user-service"]
    assert len(calls) == first.requests + new.requests
    assert {(line["outcome"], line["tries"]) for line in calls} == {("valid", 1)}
    assert first.requests > 5 * first.connections


async def test_the_addresses_of_a_name_are_tried_in_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may sort them, so that every process would call the same instance."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{number}", 80)) for number in range(3)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    resolver = pool._Resolver()
    firsts = {(await resolver.resolve("user-service.test", 80))[0]["host"] for _ in range(100)}
    assert firsts == {"192.0.2.0", "192.0.2.1", "192.0.2.2"}


@pytest.mark.parametrize(
    ("error", "requests"),
    [
        (aiohttp.ServerDisconnectedError(), 2),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), 2),
        # The connection was lost after it was taken from the pool, before it was written to. No server can time that.
        (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), 2),
        (aiohttp.ConnectionTimeoutError(), 1),
        (aiohttp.ClientPayloadError(), 1),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_call_is_retried_once_if_the_connection_ended_before_a_response(
    client: AuthClient, monkeypatch: pytest.MonkeyPatch, error: aiohttp.ClientError, requests: int
) -> None:
    made = []

    async def fail(*_: object, **__: object) -> None:
        made.append(1)
        raise error

    monkeypatch.setattr(aiohttp.ClientSession, "_request", fail)
    with pytest.raises(AuthUnavailable):
        await client.validate(ADA)
    assert len(made) == requests


@pytest.mark.parametrize("steps", [1, 3, 5])
async def test_a_process_that_was_suspended_while_connecting_has_not_timed_out(
    user_service: UserServiceStub, steps: int
) -> None:
    client = AuthClient(user_service.url, timeout=5)
    validation = asyncio.create_task(client.validate(ADA))
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(pool.CONNECT_TIMEOUT + 0.1)  # noqa: ASYNC251 - as when the machine is too busy to let it run.
    assert (await validation).user_id == 1
    await client.close()


async def test_a_proxy_from_the_environment_sees_no_token(
    user_service: UserServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    client = AuthClient(user_service.url, timeout=1)
    assert (await client.validate(ADA)).user_id == 1
    await client.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a user service that has this certificate, and accepts every token."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(answer(valid(), Connection="close"))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("host", "trusted"), [("localhost", True), ("localhost", False), ("127.0.0.1", True)])
async def test_a_token_is_sent_only_to_a_server_with_a_trusted_certificate(
    port: int, monkeypatch: pytest.MonkeyPatch, host: str, *, trusted: bool
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    client = AuthClient(f"https://{host}:{port}", timeout=2)
    try:
        if trusted and host == "localhost":
            assert await client.validate(ADA) == Caller(user_id=1, username="ada", roles=("user",))
        else:
            with pytest.raises(AuthUnavailable):
                await client.validate(ADA)
    finally:
        await client.close()
