"""Faults of the user service, on real sockets, and the responses that clients get.

The test run ends with a table of the results.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from auth_client import pool
from auth_client.client import CALL_SLOTS
from product_service import main
from testkit.applications import running
from testkit.fault_report import PROPERTY
from testkit.faulty_user_service import FaultyUserService, Request, Script, answer, valid
from testkit.products import DRAFT, MakeSettings, bearer
from testkit.user_service_stub import ADA, BOB

# The database does not matter here.
pytestmark = pytest.mark.sqlite

DEADLINE = 0.7  # seconds, for faults that only the deadline ends
NO_DEADLINE = 30.0  # seconds, for all others: a busy machine must not make a timeout of them
TOLERANCE = 15.0  # seconds of delay to allow on a busy machine
TELLTALE = "telltale"
"""Part of every response of the user service; must not appear in our responses or logs."""

INVALID = json.dumps({"valid": False, "message": TELLTALE}).encode()
UNAVAILABLE = "503 auth-unavailable"


def sends(content: bytes, then: Callable[[Request], Awaitable[None]] | None = None) -> Script:
    async def script(request: Request) -> None:
        await request.send(content)
        if then:
            await then(request)

    return script


def body(content: bytes, status: str = "200 OK", **headers: str) -> Script:
    return sends(answer(content, status, **headers))


async def sends_nothing(_: Request) -> None:
    await asyncio.sleep(60)


async def drips_headers(request: Request) -> None:
    await request.drip(answer(valid(), X_Filler="x" * 100))


async def drips_body(request: Request) -> None:
    await request.send(answer(b"", Content_Length="1000"))
    await request.drip(b" " * 1000)


async def never_ends(request: Request) -> None:
    await request.send(answer(b"", Content_Length="", Transfer_Encoding="chunked"))
    while True:
        await request.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")


async def drips_chunks(request: Request) -> None:
    await request.send(answer(b"", Content_Length="", Transfer_Encoding="chunked"))
    await request.drip(b"1\r\n \r\n" * 100)


def after_two_valid_responses(fault: Callable[[Request], Awaitable[None]]) -> Script:
    """Two connections succeed once and fail when they are reused. All others succeed."""
    both = asyncio.Event()

    async def script(request: Request) -> None:
        if request.number == 2:
            both.set()
        if request.connection <= 2 and request.position == 1:
            await both.wait()
        if request.connection > 2 or request.position == 1:
            await request.send(answer(valid()))
        else:
            await fault(request)

    return script


@dataclass(frozen=True)
class Fault:
    description: str
    script: Script
    expected: str = UNAVAILABLE
    requests: int = 1
    """The number of requests that the user service gets."""
    headers: dict[str, str] | None = None
    """The headers of the call, instead of a valid token."""
    deadline: float = NO_DEADLINE


FAULTS = [
    Fault("none: the token is valid", body(valid()), "201"),
    Fault("none: the token is invalid", body(INVALID), "401 invalid-token"),
    Fault("not called: no token", body(valid()), "401 not-authenticated", 0, {}),
    Fault("not called: malformed header", body(valid()), "401 not-authenticated", 0, {"Authorization": "Basic eA=="}),
    Fault("not called: token longer than 8 KiB", body(valid()), "401 invalid-token", 0, bearer("x" * 8193)),
    Fault("not called: malformed token", body(valid()), "401 invalid-token", 0, bearer("x(y)")),
    Fault("closes the connection without a response", lambda request: request.close(), requests=2),
    Fault("resets the connection", lambda request: request.reset(), requests=2),
    Fault("closes in the middle of the status line", sends(b"HTTP/1.1 2", lambda request: request.close())),
    Fault("closes in the middle of the headers", sends(answer(valid())[:40], lambda request: request.close())),
    Fault("closes in the middle of the body", sends(answer(valid())[:-9], lambda request: request.close())),
    Fault("resets in the middle of the body", sends(answer(valid())[:-9], lambda request: request.reset())),
    Fault("accepts and sends nothing", sends_nothing, deadline=DEADLINE),
    Fault("sends headers byte by byte", drips_headers, deadline=DEADLINE),
    Fault("sends the body byte by byte", drips_body, deadline=DEADLINE),
    Fault("sends the body chunk by chunk", drips_chunks, deadline=DEADLINE),
    Fault("sends half of the body, then nothing", sends(answer(valid())[:-9], sends_nothing), deadline=DEADLINE),
    Fault("sends 1xx, then nothing", sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, sends_nothing), deadline=DEADLINE),
    Fault("truncated JSON", body(valid()[:-1])),
    Fault("not JSON", body(f"<html>{TELLTALE}</html>".encode())),
    Fault("empty body with status 200", body(b"")),
    Fault("JSON that is not UTF-8", body(b'{"valid": "\xff\xfe"}')),
    Fault("NaN", body(valid(user_id=float("nan")))),
    Fault("number with 10,000 digits", body(b'{"valid": true, "user_id": %s}' % (b"1" * 10_000))),
    Fault("10,000 nested arrays", body(b"[" * 10_000)),
    Fault("wrong schema: id is a string", body(valid(user_id=TELLTALE))),
    Fault("wrong schema: roles is a string", body(valid(roles="admin"))),
    Fault("wrong schema: roles are numbers", body(valid(roles=[1]))),
    Fault("wrong schema: empty username", body(valid(username=""))),
    Fault("wrong schema: lone surrogate in the username", body(valid(username="\ud800"))),
    Fault("`valid` is missing", body(b'{"user_id": 1, "username": "ada", "roles": ["admin"]}')),
    Fault("`valid` is 1", body(valid(valid=1))),
    Fault("`valid` is null", body(valid(valid=None))),
    Fault("duplicate key `valid`", body(b'{"valid": false,' + valid()[1:])),
    Fault("`valid` is false, but a user is named", body(valid(valid=False))),
    Fault("array instead of object", body(b"[" + valid() + b"]")),
    Fault("content type text/html", body(valid(), Content_Type="text/html")),
    Fault("no content type", body(valid(), Content_Type="")),
    Fault("unrequested compression", body(b"\x1f\x8b\x08\x00" + valid(), Content_Encoding="gzip")),
    Fault("unrequested content encoding of a valid response", body(valid(), Content_Encoding="br")),
    Fault("UTF-16", body(valid().decode().encode("utf-16"))),
    Fault("reason phrase that is not UTF-8", sends(answer(valid()).replace(b"200 OK", b"200 \xff"))),
    Fault("redirect to a script", body(b"", "302 Found", Location="javascript:alert(1)")),
    Fault("redirect to an invalid host", body(b"", "302 Found", Location="http://xn--/")),
    Fault("response with a different request id", body(valid(), X_Request_ID=TELLTALE)),
    Fault("response of 17 KiB", body(valid(more="x" * 17 * 1024))),
    Fault("endless response", never_ends),
    Fault("malformed chunks", sends(answer(b"", Content_Length="", Transfer_Encoding="chunked") + b"telltale\r\n")),
    Fault("two different content lengths", sends(answer(valid(), Content_Length="5\r\nContent-Length: 7"))),
    Fault("header of 100 KiB", body(valid(), X_Long=TELLTALE * 12_800)),
    Fault("not HTTP", sends(b"SSH-2.0-telltale\r\n" * 10)),
    Fault("binary garbage", sends(bytes(range(256)) * 4)),
    *(
        Fault(
            f"status {status}", body(json.dumps({"detail": TELLTALE, "valid": True}).encode(), f"{status} {TELLTALE}")
        )
        for status in (201, 204, 401, 403, 404, 422, 429, 500, 503)
    ),
    Fault("valid response with status 500", body(valid(), "500 Internal Server Error")),
    Fault("invalid token with status 401", body(INVALID, "401 Unauthorized")),
]


@asynccontextmanager
async def product_service(
    make_settings: MakeSettings, url: str, deadline: float = DEADLINE
) -> AsyncIterator[httpx.AsyncClient]:
    async with running(main.create_app(make_settings(user_service_url=url, validation_timeout=deadline))) as client:
        yield client


Check = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def check(record_property: Callable[[str, object], None], caplog: pytest.LogCaptureFixture) -> Check:
    """Makes a protected call, compares its result with the expected one, and records it for the table."""

    async def check(
        client: httpx.AsyncClient, number: int, description: str, expected: str, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        started = time.perf_counter()
        with caplog.at_level("DEBUG"):
            seen = await client.post("/products", json=DRAFT, headers=bearer(ADA) if headers is None else headers)
        elapsed = time.perf_counter() - started
        result = f"{seen.status_code} {seen.json()['code']}" if seen.is_error else str(seen.status_code)
        if "retry-after" in seen.headers:
            result += f", Retry-After: {seen.headers['retry-after']}"
        if challenge := seen.headers.get("www-authenticate"):
            result += f", {challenge}"
        expected += {UNAVAILABLE: ", Retry-After: 2", "401 not-authenticated": ", Bearer"}.get(expected, "")
        expected += ', Bearer error="invalid_token"' if expected == "401 invalid-token" else ""
        record_property(PROPERTY, (str(number), description, expected, result, str(round(elapsed * 1000))))
        assert result == expected
        assert elapsed < DEADLINE + TOLERANCE
        for text in (seen.text, str(seen.headers), caplog.text):
            assert TELLTALE not in text
            assert ADA not in text
        # Reads need no validation; this one shows whether a rejected request was executed anyway.
        assert len((await client.get("/products")).json()) == (1 if seen.is_success else 0)
        return seen

    return check


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.description)
async def test_response_to_each_fault(
    make_settings: MakeSettings, check: Check, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", NO_DEADLINE)
    async with (
        FaultyUserService(fault.script) as user_service,
        product_service(make_settings, user_service.url, fault.deadline) as client,
    ):
        await check(client, FAULTS.index(fault), fault.description, fault.expected, fault.headers)
        assert user_service.requests == fault.requests


async def test_refused_connection(make_settings: MakeSettings, check: Check) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    async with product_service(make_settings, f"http://127.0.0.1:{port}") as client:
        await check(client, 100, "refuses the connection", UNAVAILABLE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux drops packets when the backlog is full")
async def test_connection_timeout(make_settings: MakeSettings, check: Check, caplog: pytest.LogCaptureFixture) -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as full:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)  # noqa: FBT003 - the method has no keyword arguments
            each.connect_ex(full.getsockname())
        address = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with product_service(make_settings, address, NO_DEADLINE) as client:
            await check(client, 101, "drops all packets", UNAVAILABLE)
        for each in waiting:
            each.close()
    # The call did not wait for the deadline of the whole validation.
    assert "'outcome': 'no connection'" in caplog.text


async def test_unknown_host(make_settings: MakeSettings, check: Check) -> None:
    async with product_service(make_settings, "http://user-service.invalid") as client:
        await check(client, 102, "has an unknown host name", UNAVAILABLE)


async def test_server_without_tls(make_settings: MakeSettings, check: Check) -> None:
    async with FaultyUserService(body(valid())) as user_service:
        async with product_service(make_settings, user_service.url.replace("http", "https")) as client:
            await check(client, 103, "does not support TLS", UNAVAILABLE)
        assert user_service.requests == 0


async def test_server_that_sends_first(make_settings: MakeSettings, check: Check) -> None:
    async with (
        FaultyUserService(body(valid()), greeting=b"220 telltale\r\n") as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        await check(client, 106, "sends a greeting of another protocol", UNAVAILABLE)
        assert user_service.connections <= 2


@pytest.mark.parametrize("status", [302, 307])
async def test_redirects_are_not_followed(make_settings: MakeSettings, check: Check, status: int) -> None:
    async with FaultyUserService(body(valid())) as target:
        redirect = body(b"", f"{status} Moved", Location=f"{target.url}/{TELLTALE}")
        async with (
            FaultyUserService(redirect) as user_service,
            product_service(make_settings, user_service.url) as client,
        ):
            await check(client, status, f"redirects with status {status}", UNAVAILABLE)
        assert target.requests == 0


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_stale_connections_are_replaced(make_settings: MakeSettings, check: Check, how: str) -> None:
    script = after_two_valid_responses(lambda request: request.close() if how == "closed" else request.reset())
    async with FaultyUserService(script) as user_service, product_service(make_settings, user_service.url) as client:
        # Delete an unknown product, so that the catalogue stays empty.
        unknown = [client.delete("/products/1", headers=bearer(ADA)) for _ in range(2)]
        assert [each.status_code for each in await asyncio.gather(*unknown)] == [404, 404]
        assert user_service.connections == 2
        await check(client, 104, f"has {how} its kept connections when they are reused", "201")
        # The retry does not use the other kept connection, which may be stale too.
        assert (user_service.connections, user_service.requests) == (3, 4)


async def test_unsolicited_response_is_discarded(make_settings: MakeSettings, check: Check) -> None:
    async def responds_twice(request: Request) -> None:
        if request.number == 1:
            await request.send(answer(INVALID))
            await asyncio.sleep(0.05)
            await request.send(answer(valid(user_id=9, roles=["admin"])))
        else:
            await request.send(answer(INVALID))

    async with (
        FaultyUserService(responds_twice) as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        await check(client, 105, "sends an unsolicited response", "401 invalid-token")
        await asyncio.sleep(0.1)
        assert (await client.post("/products", json=DRAFT, headers=bearer(BOB))).status_code == 401
        assert user_service.connections == 2


async def test_cookies_are_not_stored(make_settings: MakeSettings) -> None:
    heads: list[bytes] = []

    async def sets_a_cookie(request: Request) -> None:
        heads.append(request.head)
        await request.send(answer(valid(), Set_Cookie=f"who={TELLTALE}; Path=/"))

    async with (
        FaultyUserService(sets_a_cookie) as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        for _ in range(2):
            await client.delete("/products/1", headers=bearer(ADA))
    assert len(heads) == 2
    assert TELLTALE.encode() not in b"".join(heads)


async def test_reads_stay_fast_while_protected_requests_hang(make_settings: MakeSettings) -> None:
    async with (
        FaultyUserService(sends_nothing) as user_service,
        product_service(make_settings, user_service.url, deadline := 8.0) as client,
    ):
        started = time.perf_counter()
        hanging = [
            asyncio.create_task(client.post("/products", json=DRAFT, headers=bearer(ADA)))
            for _ in range(3 * CALL_SLOTS)
        ]
        slowest = 0.0
        reads = 0
        while not all(each.done() for each in hanging):
            read = time.perf_counter()
            assert (await client.get("/products")).json() == []
            assert (await client.get("/health/ready")).status_code == 200
            slowest = max(slowest, time.perf_counter() - read)
            reads += 1
            await asyncio.sleep(0.05)
        assert time.perf_counter() - started < deadline + TOLERANCE
        assert reads >= 5
        assert slowest < deadline / 2
        assert {(await each).status_code for each in hanging} == {503}
        # The other calls were waiting for a call slot.
        assert user_service.connections == CALL_SLOTS


async def test_concurrent_calls_succeed(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", NO_DEADLINE)

    async def responds_slowly(request: Request) -> None:
        await asyncio.sleep(0.02)
        await request.send(answer(valid()))

    async with (
        FaultyUserService(responds_slowly) as user_service,
        product_service(make_settings, user_service.url, NO_DEADLINE) as client,
    ):
        calls = [client.delete("/products/1", headers=bearer(ADA)) for _ in range(100)]
        statuses: set[Any] = {each.status_code for each in await asyncio.gather(*calls)}
        assert statuses == {404}
        assert user_service.requests == 100
        assert user_service.connections <= CALL_SLOTS


async def test_silently_dropped_connections_fail_only_one_call(
    make_settings: MakeSettings,
) -> None:
    """A host vanishes or a firewall drops idle connections: none is closed, and new ones work."""
    silent = asyncio.Event()
    idle = 5
    together = asyncio.Barrier(idle)

    async def script(request: Request) -> None:
        if silent.is_set() and request.connection <= idle:
            await sends_nothing(request)
        if not silent.is_set():
            await together.wait()  # So that each call gets its own connection.
        await request.send(answer(valid()))

    async with (
        FaultyUserService(script) as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        calls = [client.delete("/products/1", headers=bearer(ADA)) for _ in range(idle)]
        assert {each.status_code for each in await asyncio.gather(*calls)} == {404}
        assert user_service.connections == idle
        silent.set()
        statuses = [(await client.delete("/products/1", headers=bearer(ADA))).status_code for _ in range(idle + 2)]
    assert statuses == [503, *[404] * (idle + 1)]
