"""The client of the seam, against a stand-in for the user service on a real socket.

The table of faults, byte by byte, is in test_seam_faults.py; here is what the client asks, keeps, counts and logs.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from auth_client import client as identity
from auth_client.caller import Caller
from auth_client.client import AuthClient
from auth_client.errors import AuthUnavailable
from chassis.errors import InvalidToken
from product_service.settings import Settings
from testkit.user_service_stub import ADA, CONTRACT, REFUSED, VALID, UserServiceStub


@pytest.fixture
async def client(user_service: UserServiceStub) -> AsyncIterator[AuthClient]:
    client = AuthClient(user_service.url, timeout=1)
    yield client
    await client.close()


@pytest.mark.parametrize("interaction", CONTRACT["interactions"], ids=lambda each: each["given"])
async def test_the_contract_is_understood(
    client: AuthClient, user_service: UserServiceStub, interaction: dict[str, Any]
) -> None:
    user_service.answer = lambda _: (interaction["status"], json.dumps(interaction["body"]).encode())
    if interaction["outcome"] == "caller":
        assert await client.validate(ADA) == Caller(user_id=1, username="ada", roles=("user",))
    else:
        with pytest.raises(InvalidToken):
            await client.validate(ADA)


async def test_the_question_is_the_one_of_the_contract(client: AuthClient, user_service: UserServiceStub) -> None:
    await client.validate(ADA)
    [(token, headers)] = user_service.requests
    assert token == ADA
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers


async def test_the_service_key_is_shown_where_there_is_one(user_service: UserServiceStub) -> None:
    client = AuthClient(user_service.url, timeout=1, service_key="a key of our own")
    await client.validate(ADA)
    await client.close()
    [(_, headers)] = user_service.requests
    assert headers["x-service-key"] == "a key of our own"


async def test_fields_that_it_does_not_know_do_no_harm(client: AuthClient, user_service: UserServiceStub) -> None:
    user_service.answer = lambda _: (200, json.dumps({**VALID, "session_id": "7", "new": 1}).encode())
    assert (await client.validate(ADA)).user_id == 1


async def test_a_proxy_from_the_environment_gets_no_token(
    user_service: UserServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    client = AuthClient(user_service.url, timeout=1)
    assert (await client.validate(ADA)).user_id == 1
    await client.close()


async def test_connections_are_kept_open_between_validations(client: AuthClient, user_service: UserServiceStub) -> None:
    for _ in range(5):
        await client.validate(ADA)
    assert len({headers["x-test-client-port"] for _, headers in user_service.requests}) == 1


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (aiohttp.ServerDisconnectedError(), 2),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), 2),
        # It was lost between being taken from the pool and being written to, which no server can time.
        (aiohttp.ClientConnectionResetError("Cannot write to closing transport"), 2),
        (aiohttp.ConnectionTimeoutError(), 1),
        (aiohttp.ClientPayloadError(), 1),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_asked_again_is_what_ended_before_an_answer(
    client: AuthClient, monkeypatch: pytest.MonkeyPatch, error: aiohttp.ClientError, asked: int
) -> None:
    requests = []

    async def fail(*_: object, **__: object) -> None:
        requests.append(1)
        raise error

    monkeypatch.setattr(aiohttp.ClientSession, "_request", fail)
    with pytest.raises(AuthUnavailable):
        await client.validate(ADA)
    assert len(requests) == asked


@pytest.mark.parametrize("steps", [1, 3, 5])
async def test_a_process_that_stood_still_while_it_connected_does_not_blame_the_user_service(
    user_service: UserServiceStub, steps: int
) -> None:
    client = AuthClient(user_service.url, timeout=5)
    asking = asyncio.create_task(client.validate(ADA))
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(identity.CONNECT_TIMEOUT + 0.1)  # noqa: ASYNC251 - as when the machine is too busy to let it run.
    assert (await asking).user_id == 1
    await client.close()


async def test_every_request_is_a_validation_of_its_own(client: AuthClient, user_service: UserServiceStub) -> None:
    assert (await client.validate(ADA)).user_id == 1
    user_service.answer = lambda _: (200, b'{"valid": false, "message": "revoked"}')
    with pytest.raises(InvalidToken):
        await client.validate(ADA)
    assert len(user_service.requests) == 2


async def test_health_is_asked_at_most_every_five_seconds(client: AuthClient, user_service: UserServiceStub) -> None:
    assert await client.is_reachable()
    user_service.stop()
    assert await client.is_reachable()
    client._health_asked -= identity.HEALTH_EVERY
    assert not await client.is_reachable()


@pytest.mark.parametrize("key", ["too-short", "with a space " * 4, "x" * 40 + "\n", "\u00e9" * 40, "with,commas" * 4])
def test_a_service_key_that_no_header_can_hold_or_the_user_service_cannot_have_stops_the_start(key: str) -> None:
    with pytest.raises(ValueError, match="32 or more letters, digits and signs without a comma") as refusal:
        Settings(_env_file=None, service_key=SecretStr(key))
    assert key not in str(refusal.value)


@pytest.mark.parametrize(("status", "levels"), [(200, ["INFO"]), (500, ["WARNING"]), (401, ["ERROR", "WARNING"])])
async def test_a_question_that_was_not_answered_is_a_warning_in_the_log_and_a_key_that_is_refused_an_error(
    user_service: UserServiceStub, caplog: pytest.LogCaptureFixture, status: int, levels: list[str]
) -> None:
    client = AuthClient(user_service.url, timeout=1, service_key="a key of our own")
    user_service.answer = lambda _: (status, json.dumps(VALID).encode())
    with suppress(AuthUnavailable):
        await client.validate(ADA)
    await client.close()
    assert [record.levelname for record in caplog.records] == levels
    assert ("SERVICE_KEY" in caplog.text) == (status == 401)
    assert "a key of our own" not in caplog.text


GOOD = (200, json.dumps(VALID).encode())
REFUSAL = (200, json.dumps(REFUSED[0]).encode())
ERROR = (500, b"{}")


async def lose(client: AuthClient, times: int = 1) -> list[float]:
    """Ask so many times in vain; the seconds after which one is told to come back."""
    waits = []
    for _ in range(times):
        with pytest.raises(AuthUnavailable) as lost:
            await client.validate(ADA)
        assert lost.value.retry_after is not None
        waits.append(lost.value.retry_after.total_seconds())
    return waits


async def test_after_several_failures_in_a_row_nobody_is_asked_for_a_while(
    client: AuthClient, user_service: UserServiceStub
) -> None:
    user_service.answer = lambda _: ERROR
    assert await lose(client, identity.FAILURES_TO_OPEN) == [2.0] * identity.FAILURES_TO_OPEN
    assert client.breaker_state == "open"
    started = time.monotonic()
    assert all(0 < wait <= identity.OPEN_FOR for wait in await lose(client, 5))
    assert time.monotonic() - started < identity.OPEN_FOR / 2
    assert len(user_service.requests) == identity.FAILURES_TO_OPEN


@pytest.mark.parametrize("good", [GOOD, REFUSAL], ids=["valid", "not valid"])
async def test_any_answer_of_the_contract_ends_a_row_of_failures(
    client: AuthClient, user_service: UserServiceStub, good: tuple[int, bytes]
) -> None:
    for _ in range(2):
        user_service.answer = lambda _: ERROR
        await lose(client, identity.FAILURES_TO_OPEN - 1)
        user_service.answer = lambda _: good
        with suppress(InvalidToken):
            await client.validate(ADA)
    assert client.breaker_state == "closed"


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "OPEN_FOR", 0.05)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Answers that wait for it are given once it is set."""
    gate = threading.Event()
    yield gate
    gate.set()


async def opened(client: AuthClient, user_service: UserServiceStub) -> None:
    """Let the breaker open, and the time go by until it lets a probe through."""
    user_service.answer = lambda _: ERROR
    await lose(client, identity.FAILURES_TO_OPEN)
    await asyncio.sleep(2 * identity.OPEN_FOR)
    assert client.breaker_state == "half-open"
    user_service.requests.clear()


async def asked(user_service: UserServiceStub, requests: int) -> None:
    async with asyncio.timeout(5):
        while len(user_service.requests) < requests:  # noqa: ASYNC110 - another thread adds them.
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("quick_probes")
async def test_one_request_probes_and_the_others_are_told_to_come_back_until_it_is_answered(
    client: AuthClient, user_service: UserServiceStub, gate: threading.Event
) -> None:
    await opened(client, user_service)

    def good_in_the_end(_: str) -> tuple[int, bytes]:
        gate.wait(5)
        return GOOD

    user_service.answer = good_in_the_end
    probe = asyncio.create_task(client.validate(ADA))
    await asked(user_service, 1)
    await lose(client, 5)
    assert len(user_service.requests) == 1
    gate.set()
    assert (await probe).user_id == 1
    assert client.breaker_state == "closed"
    assert (await client.validate(ADA)).user_id == 1


@pytest.mark.usefixtures("quick_probes")
async def test_a_probe_whose_client_hangs_up_leaves_room_for_the_next(
    client: AuthClient, user_service: UserServiceStub, gate: threading.Event
) -> None:
    await opened(client, user_service)

    def hang(_: str) -> tuple[int, bytes]:
        gate.wait(5)
        return GOOD

    user_service.answer = hang
    probe = asyncio.create_task(client.validate(ADA))
    await asked(user_service, 1)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    user_service.answer = lambda _: GOOD
    assert (await client.validate(ADA)).user_id == 1
    assert client.breaker_state == "closed"


async def test_requests_that_are_cancelled_are_no_failures_and_give_their_turn_back(
    client: AuthClient, user_service: UserServiceStub, gate: threading.Event
) -> None:
    def hang(_: str) -> tuple[int, bytes]:
        gate.wait(5)
        return GOOD

    user_service.answer = hang
    # Some of them are being asked about, the others wait for a turn.
    tasks = [asyncio.create_task(client.validate(ADA)) for _ in range(2 * identity.MOST_CALLS)]
    await asked(user_service, identity.MOST_CALLS)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in ended} == {asyncio.CancelledError}
    assert len(user_service.requests) == identity.MOST_CALLS
    assert client.breaker_state == "closed"
    user_service.answer = lambda _: GOOD
    callers = await asyncio.gather(*(client.validate(ADA) for _ in range(2 * identity.MOST_CALLS)))
    assert {caller.user_id for caller in callers} == {1}


async def test_who_gets_no_turn_in_time_is_told_so_and_nobody_was_asked(
    user_service: UserServiceStub, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "MOST_CALLS", 1)
    client = AuthClient(user_service.url, timeout=0.3)

    def hang(_: str) -> tuple[int, bytes]:
        gate.wait(5)
        return GOOD

    user_service.answer = hang
    started = time.monotonic()
    ended = await asyncio.gather(*(client.validate(ADA) for _ in range(3)), return_exceptions=True)
    assert time.monotonic() - started < 0.3 + 1
    assert {type(each) for each in ended} == {AuthUnavailable}
    assert len(user_service.requests) == 1
    await client.close()


async def test_the_last_success_is_that_of_the_last_validation_that_was_answered(
    client: AuthClient, user_service: UserServiceStub
) -> None:
    assert client.last_success is None
    user_service.answer = lambda _: ERROR
    await lose(client)
    assert client.last_success is None
    user_service.answer = lambda _: REFUSAL
    with pytest.raises(InvalidToken):
        await client.validate(ADA)
    first = client.last_success
    assert first is not None
    assert abs(datetime.now(UTC) - first) < timedelta(seconds=5)
    user_service.answer = lambda _: GOOD
    await client.validate(ADA)
    assert client.last_success > first
