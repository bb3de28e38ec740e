"""Every fault of the user service that we could think of, on real sockets, and what a client of ours hears of it.

A run that contains this module ends with its table.
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

from auth_client.client import CALL_SLOTS
from product_service import main
from testkit.applications import running
from testkit.fault_report import PROPERTY
from testkit.faulty_user_service import FaultyUserService, Request, Script, answer, valid
from testkit.products import DRAFT, MakeSettings, bearer
from testkit.user_service_stub import ADA, BOB

# The catalogue is not what this is about.
pytestmark = pytest.mark.sqlite

DEADLINE = 0.7  # seconds
ROOM = 2.0  # seconds by which a machine that is busy may be late
TELLTALE = "telltale"
"""Stands in whatever the user service says, and may stand in nothing that we answer or log."""

REFUSED = json.dumps({"valid": False, "message": TELLTALE}).encode()
LOST = "503 auth-unavailable"


def says(content: bytes, then: Callable[[Request], Awaitable[None]] | None = None) -> Script:
    async def script(request: Request) -> None:
        await request.send(content)
        if then:
            await then(request)

    return script


def body(content: bytes, status: str = "200 OK", **headers: str) -> Script:
    return says(answer(content, status, **headers))


async def says_nothing(_: Request) -> None:
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


def after_two_good_ones(fault: Callable[[Request], Awaitable[None]]) -> Script:
    """Two connections are used and kept open, and end when they are used again; others are good."""
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
class Row:
    does: str
    script: Script
    expected: str = LOST
    requests: int | None = 1
    """How many the user service gets; None is for as many as there are."""
    headers: dict[str, str] | None = None
    """Of the call, if not those of somebody who is signed in."""


ROWS = [
    Row("nothing wrong: the token is valid", body(valid()), "201"),
    Row("the token is not valid", body(REFUSED), "401 invalid-token"),
    Row("not asked: no token", body(valid()), "401 not-authenticated", 0, {}),
    Row("not asked: a malformed header", body(valid()), "401 not-authenticated", 0, {"Authorization": "Basic eA=="}),
    Row("not asked: a token of more than 8 KiB", body(valid()), "401 invalid-token", 0, bearer("x" * 8193)),
    Row("not asked: a token that cannot be one", body(valid()), "401 invalid-token", 0, bearer("x(y)")),
    Row("closes the connection without an answer", lambda request: request.close(), requests=2),
    Row("resets the connection", lambda request: request.reset(), requests=2),
    Row("closes in the middle of the status line", says(b"HTTP/1.1 2", lambda request: request.close())),
    Row("closes in the middle of the headers", says(answer(valid())[:40], lambda request: request.close())),
    Row("closes in the middle of the body", says(answer(valid())[:-9], lambda request: request.close())),
    Row("resets in the middle of the body", says(answer(valid())[:-9], lambda request: request.reset())),
    Row("accepts and says nothing", says_nothing),
    Row("sends headers byte by byte", drips_headers),
    Row("sends the body byte by byte", drips_body),
    Row("sends the body chunk by chunk", drips_chunks),
    Row("sends half of the body and then nothing", says(answer(valid())[:-9], says_nothing)),
    Row("sends 1xx answers and then nothing", says(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, says_nothing)),
    Row("truncated JSON", body(valid()[:-1])),
    Row("not JSON", body(f"<html>{TELLTALE}</html>".encode())),
    Row("nothing, with status 200", body(b"")),
    Row("bytes that are no text", body(b'{"valid": "\xff\xfe"}')),
    Row("NaN", body(valid(user_id=float("nan")))),
    Row("a number of 10,000 digits", body(b'{"valid": true, "user_id": %s}' % (b"1" * 10_000))),
    Row("10,000 lists in each other", body(b"[" * 10_000)),
    Row("the wrong schema: an id as text", body(valid(user_id=TELLTALE))),
    Row("the wrong schema: roles as text", body(valid(roles="admin"))),
    Row("the wrong schema: roles as numbers", body(valid(roles=[1]))),
    Row("the wrong schema: nobody's name", body(valid(username=""))),
    Row("the wrong schema: half a surrogate as the name", body(valid(username="\ud800"))),
    Row("`valid` is missing", body(b'{"user_id": 1, "username": "ada", "roles": ["admin"]}')),
    Row("`valid` is 1", body(valid(valid=1))),
    Row("`valid` is null", body(valid(valid=None))),
    Row("`valid` is said twice", body(b'{"valid": false,' + valid()[1:])),
    Row("`valid` is false, and somebody is named", body(valid(valid=False))),
    Row("a list", body(b"[" + valid() + b"]")),
    Row("the content type of a page", body(valid(), Content_Type="text/html")),
    Row("no content type", body(valid(), Content_Type="")),
    Row("compressed, although nobody asked for it", body(b"\x1f\x8b\x08\x00" + valid(), Content_Encoding="gzip")),
    Row("another encoding of a good answer", body(valid(), Content_Encoding="br")),
    Row("UTF-16", body(valid().decode().encode("utf-16"))),
    Row("a reason that is not UTF-8", says(answer(valid()).replace(b"200 OK", b"200 \xff"))),
    Row("a redirect to a script", body(b"", "302 Found", Location="javascript:alert(1)")),
    Row("a redirect to no name", body(b"", "302 Found", Location="http://xn--/")),
    Row("the answer to another request", body(valid(), X_Request_ID=TELLTALE)),
    Row("an answer of 17 KiB", body(valid(more="x" * 17 * 1024))),
    Row("an answer without an end", never_ends),
    Row("chunks that are none", says(answer(b"", Content_Length="", Transfer_Encoding="chunked") + b"telltale\r\n")),
    Row("two lengths that differ", says(answer(valid(), Content_Length="5\r\nContent-Length: 7"))),
    Row("a header of 100 KiB", body(valid(), X_Long=TELLTALE * 12_800)),
    Row("garbage that is not HTTP", says(b"SSH-2.0-telltale\r\n" * 10)),
    Row("bytes at random", says(bytes(range(256)) * 4)),
    *(
        Row(f"status {status}", body(json.dumps({"detail": TELLTALE, "valid": True}).encode(), f"{status} {TELLTALE}"))
        for status in (201, 204, 401, 403, 404, 422, 429, 500, 503)
    ),
    Row("a good answer with status 500", body(valid(), "500 Internal Server Error")),
    Row("not valid, with status 401", body(REFUSED, "401 Unauthorized")),
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
    """Makes a protected call, compares what it gets with what it should get, and notes it for the table."""

    async def check(
        client: httpx.AsyncClient, number: int, does: str, expected: str, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        started = time.perf_counter()
        with caplog.at_level("DEBUG"):
            seen = await client.post("/products", json=DRAFT, headers=bearer(ADA) if headers is None else headers)
        elapsed = time.perf_counter() - started
        told = f"{seen.status_code} {seen.json()['code']}" if seen.is_error else str(seen.status_code)
        if "retry-after" in seen.headers:
            told += f", Retry-After: {seen.headers['retry-after']}"
        if challenge := seen.headers.get("www-authenticate"):
            told += f", {challenge}"
        expected += {LOST: ", Retry-After: 2", "401 not-authenticated": ", Bearer"}.get(expected, "")
        expected += ', Bearer error="invalid_token"' if expected == "401 invalid-token" else ""
        record_property(PROPERTY, (str(number), does, expected, told, str(round(elapsed * 1000))))
        assert told == expected
        assert elapsed < DEADLINE + ROOM
        for text in (seen.text, str(seen.headers), caplog.text):
            assert TELLTALE not in text
            assert ADA not in text
        # A read asks nobody, and tells whether what was refused was done all the same.
        assert len((await client.get("/products")).json()) == (1 if seen.is_success else 0)
        return seen

    return check


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.does)
async def test_the_table_of_faults(make_settings: MakeSettings, check: Check, row: Row) -> None:
    async with (
        FaultyUserService(row.script) as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        await check(client, ROWS.index(row), row.does, row.expected, row.headers)
        assert user_service.requests == row.requests


async def test_a_connection_that_is_refused(make_settings: MakeSettings, check: Check) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    async with product_service(make_settings, f"http://127.0.0.1:{port}") as client:
        await check(client, 100, "refuses the connection", LOST)


@pytest.mark.skipif(sys.platform != "linux", reason="only there a full queue drops what comes")
async def test_a_connection_that_nobody_answers(
    make_settings: MakeSettings, check: Check, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as full:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)  # noqa: FBT003 - the method knows no names.
            each.connect_ex(full.getsockname())
        async with product_service(make_settings, f"http://127.0.0.1:{full.getsockname()[1]}") as client:
            await check(client, 101, "drops all packets", LOST)
        for each in waiting:
            each.close()
    # It has not waited for the deadline of the whole call.
    assert "'outcome': 'ConnectionTimeoutError'" in caplog.text


async def test_a_name_that_nobody_has(make_settings: MakeSettings, check: Check) -> None:
    async with product_service(make_settings, "http://user-service.invalid") as client:
        await check(client, 102, "has a name that cannot be found", LOST)


async def test_a_service_that_does_not_speak_tls(make_settings: MakeSettings, check: Check) -> None:
    async with FaultyUserService(body(valid())) as user_service:
        async with product_service(make_settings, user_service.url.replace("http", "https")) as client:
            await check(client, 103, "does not speak TLS where it should", LOST)
        assert user_service.requests == 0


async def test_a_service_that_speaks_first(make_settings: MakeSettings, check: Check) -> None:
    async with (
        FaultyUserService(body(valid()), greeting=b"220 telltale\r\n") as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        await check(client, 106, "speaks first, and another protocol", LOST)
        assert user_service.connections <= 2


@pytest.mark.parametrize("status", [302, 307])
async def test_a_redirect(make_settings: MakeSettings, check: Check, status: int) -> None:
    async with FaultyUserService(body(valid())) as elsewhere:
        there = body(b"", f"{status} Moved", Location=f"{elsewhere.url}/{TELLTALE}")
        async with FaultyUserService(there) as user_service, product_service(make_settings, user_service.url) as client:
            await check(client, status, f"redirects with status {status}", LOST)
        assert elsewhere.requests == 0


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_kept_connections_that_are_stale(make_settings: MakeSettings, check: Check, how: str) -> None:
    script = after_two_good_ones(lambda request: request.close() if how == "closed" else request.reset())
    async with FaultyUserService(script) as user_service, product_service(make_settings, user_service.url) as client:
        # A deletion of what is not there, so that there is nothing in the catalogue but what is looked for.
        unknown = [client.delete("/products/1", headers=bearer(ADA)) for _ in range(2)]
        assert [each.status_code for each in await asyncio.gather(*unknown)] == [404, 404]
        assert user_service.connections == 2
        await check(client, 104, f"has kept connections that are {how} when used again", "201")
        # Not on the other one that was kept, which is no better.
        assert (user_service.connections, user_service.requests) == (3, 4)


async def test_an_answer_that_came_unasked_is_nobodys(make_settings: MakeSettings, check: Check) -> None:
    async def answers_twice(request: Request) -> None:
        if request.number == 1:
            await request.send(answer(REFUSED))
            await asyncio.sleep(0.05)
            await request.send(answer(valid(user_id=9, roles=["admin"])))
        else:
            await request.send(answer(REFUSED))

    async with (
        FaultyUserService(answers_twice) as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        await check(client, 105, "answers once more than it was asked", "401 invalid-token")
        await asyncio.sleep(0.1)
        assert (await client.post("/products", json=DRAFT, headers=bearer(BOB))).status_code == 401
        assert user_service.connections == 2


async def test_a_cookie_is_not_kept(make_settings: MakeSettings) -> None:
    heads: list[bytes] = []

    async def gives_a_cookie(request: Request) -> None:
        heads.append(request.head)
        await request.send(answer(valid(), Set_Cookie=f"who={TELLTALE}; Path=/"))

    async with (
        FaultyUserService(gives_a_cookie) as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        for _ in range(2):
            await client.delete("/products/1", headers=bearer(ADA))
    assert len(heads) == 2
    assert TELLTALE.encode() not in b"".join(heads)


async def test_reads_are_prompt_while_many_protected_requests_hang(make_settings: MakeSettings) -> None:
    async with (
        FaultyUserService(says_nothing) as user_service,
        product_service(make_settings, user_service.url, deadline := 4.0) as client,
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
        assert time.perf_counter() - started < deadline + ROOM
        assert reads >= 5
        assert slowest < deadline / 2
        assert {(await each).status_code for each in hanging} == {503}
        # The others were waiting for a call slot.
        assert user_service.connections == CALL_SLOTS


async def test_in_normal_running_nothing_is_refused(make_settings: MakeSettings) -> None:
    async def takes_its_time(request: Request) -> None:
        await asyncio.sleep(0.02)
        await request.send(answer(valid()))

    async with (
        FaultyUserService(takes_its_time) as user_service,
        product_service(make_settings, user_service.url, 2) as client,
    ):
        calls = [client.delete("/products/1", headers=bearer(ADA)) for _ in range(100)]
        statuses: set[Any] = {each.status_code for each in await asyncio.gather(*calls)}
        assert statuses == {404}
        assert user_service.requests == 100
        assert user_service.connections <= CALL_SLOTS


async def test_connections_that_fall_silent_while_they_rest_cost_one_call_and_not_each_its_own(
    make_settings: MakeSettings,
) -> None:
    """As when a host vanishes, or a firewall forgets them: nothing closes them, and new ones are answered."""
    silent = asyncio.Event()
    resting = 5
    together = asyncio.Barrier(resting)

    async def script(request: Request) -> None:
        if silent.is_set() and request.connection <= resting:
            await says_nothing(request)
        if not silent.is_set():
            await together.wait()  # So that each has a connection of its own.
        await request.send(answer(valid()))

    async with (
        FaultyUserService(script) as user_service,
        product_service(make_settings, user_service.url) as client,
    ):
        calls = [client.delete("/products/1", headers=bearer(ADA)) for _ in range(resting)]
        assert {each.status_code for each in await asyncio.gather(*calls)} == {404}
        assert user_service.connections == resting
        silent.set()
        statuses = [(await client.delete("/products/1", headers=bearer(ADA))).status_code for _ in range(resting + 2)]
    assert statuses == [503, *[404] * (resting + 1)]
