"""The client, against a stand-in for the user service on a real socket: what it sends, limits, counts and logs.

The faults of a user service, byte by byte, are in test_token_validation_faults.py of the product service.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auth_client import client as client_module
from auth_client import pool
from auth_client.client import CALL_SLOTS, FAILURES_TO_OPEN, HEALTH_INTERVAL, AuthClient
from auth_client.errors import AuthUnavailable
from chassis.errors import InvalidToken
from testkit.faulty_user_service import FaultyUserService, Request, Script, answer, valid
from testkit.user_service_stub import ADA, REFUSED, VALID, UserServiceStub

KEY = "a-key-of-the-product-service-for-tests"
ACCEPTED = (200, json.dumps(VALID).encode())
REJECTED = (200, json.dumps(REFUSED[0]).encode())
ERROR = (500, b"{}")


async def fail(client: AuthClient, times: int = 1) -> list[float]:
    """Validate in vain this many times; the seconds of each `retry_after`."""
    waits = []
    for _ in range(times):
        with pytest.raises(AuthUnavailable) as failure:
            await client.validate(ADA)
        assert failure.value.retry_after is not None
        waits.append(failure.value.retry_after.total_seconds())
    return waits


async def requests_arrived(user_service: UserServiceStub, number: int) -> None:
    async with asyncio.timeout(5):
        while len(user_service.requests) < number:  # noqa: ASYNC110 - another thread adds them.
            await asyncio.sleep(0.01)


@pytest.fixture
def gate(user_service: UserServiceStub) -> Iterator[threading.Event]:
    """Keeps all responses back until it is set."""
    gate = threading.Event()

    def wait(_: str) -> tuple[int, bytes]:
        gate.wait(5)
        return ACCEPTED

    user_service.answer = wait
    yield gate
    gate.set()


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "OPEN_FOR", 0.05)


async def test_the_service_key_is_sent_if_there_is_one(user_service: UserServiceStub) -> None:
    for key in (KEY, None):
        client = AuthClient(user_service.url, timeout=1, service_key=key)
        await client.validate(ADA)
        await client.close()
    assert [headers.get("x-service-key") for _, headers in user_service.requests] == [KEY, None]


async def test_no_response_is_reused_for_another_request(client: AuthClient, user_service: UserServiceStub) -> None:
    assert (await client.validate(ADA)).user_id == 1
    user_service.answer = lambda _: REJECTED
    with pytest.raises(InvalidToken):
        await client.validate(ADA)
    assert len(user_service.requests) == 2


async def test_health_is_checked_at_most_every_five_seconds(client: AuthClient, user_service: UserServiceStub) -> None:
    assert await client.is_reachable()
    user_service.stop()
    assert await client.is_reachable()
    client._health_checked -= HEALTH_INTERVAL
    assert not await client.is_reachable()


async def test_health_is_checked_again_after_a_failed_validation(
    client: AuthClient, user_service: UserServiceStub
) -> None:
    assert await client.is_reachable()
    user_service.stop()
    assert await client.is_reachable()
    await fail(client)
    assert not await client.is_reachable()


async def test_the_last_success_is_the_time_of_the_last_validation_with_a_result(
    client: AuthClient, user_service: UserServiceStub
) -> None:
    assert client.last_success is None
    user_service.answer = lambda _: ERROR
    await fail(client)
    assert client.last_success is None
    user_service.answer = lambda _: REJECTED
    with pytest.raises(InvalidToken):
        await client.validate(ADA)
    first = client.last_success
    assert first is not None
    assert abs(datetime.now(UTC) - first) < timedelta(seconds=5)
    user_service.answer = lambda _: ACCEPTED
    await client.validate(ADA)
    assert client.last_success > first


# The log


def log_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines: list[Any] = [record.msg for record in caplog.records]
    return lines


@pytest.mark.parametrize(
    ("response", "levels", "outcome"),
    [
        (ACCEPTED, ["info"], "valid"),
        (REJECTED, ["info"], "refused"),
        ((500, ACCEPTED[1]), ["warning"], "unexpected status"),
        ((401, ACCEPTED[1]), ["error", "warning"], "unexpected status"),
        ((200, b"[]"), ["warning"], "unexpected content"),
    ],
    ids=["valid", "not valid", "status 500", "status 401", "a list"],
)
async def test_a_call_without_a_result_is_logged_as_a_warning_and_a_rejected_service_key_as_an_error(
    user_service: UserServiceStub,
    caplog: pytest.LogCaptureFixture,
    response: tuple[int, bytes],
    levels: list[str],
    outcome: str,
) -> None:
    client = AuthClient(user_service.url, timeout=1, service_key=KEY)
    user_service.answer = lambda _: response
    with caplog.at_level("INFO"), suppress(AuthUnavailable, InvalidToken):
        await client.validate(ADA)
    await client.close()
    *errors, call = log_lines(caplog)
    assert [line["level"] for line in (*errors, call)] == levels
    assert [line["event"] for line in errors] == [
        "user-service does not accept the SERVICE_KEY of this service, or it has none"
    ] * (response[0] == 401)
    assert (call["event"], call["tries"]) == ("called user-service", 1)
    assert (call["status"], call["outcome"]) == (response[0], outcome)
    assert 0 < call["duration_ms"] < 5000
    assert KEY not in caplog.text


async def test_a_retry_is_logged_with_the_call(caplog: pytest.LogCaptureFixture) -> None:
    async def closes_once(request: Request) -> None:
        await (request.close() if request.number == 1 else request.send(answer(valid())))

    async with FaultyUserService(closes_once) as user_service:
        client = AuthClient(user_service.url, timeout=1)
        with caplog.at_level("INFO"):
            assert (await client.validate(ADA)).user_id == 1
        await client.close()
    [call] = log_lines(caplog)
    assert (call["outcome"], call["tries"]) == ("valid", 2)


async def hang(_: Request) -> None:
    await asyncio.sleep(60)


async def hang_up(request: Request) -> None:
    await request.close()


@pytest.mark.parametrize(("script", "outcome"), [(hang, "timeout"), (hang_up, "disconnected"), (None, "no connection")])
async def test_a_failed_call_is_logged_in_plain_words(
    caplog: pytest.LogCaptureFixture, script: Script | None, outcome: str
) -> None:
    async with FaultyUserService(script or hang) as user_service:
        client = AuthClient(user_service.url, timeout=0.2 if script is hang else 30)
        if script:
            with caplog.at_level("INFO"):
                await fail(client)
    if not script:  # Nobody listens any more.
        with caplog.at_level("INFO"):
            await fail(client)
    await client.close()
    assert log_lines(caplog)[-1]["outcome"] == outcome


# The breaker


async def test_after_several_consecutive_failures_the_user_service_is_not_called_for_a_while(
    user_service: UserServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "OPEN_FOR", 60.0)
    client = AuthClient(user_service.url, timeout=1)
    user_service.answer = lambda _: ERROR
    assert await fail(client, FAILURES_TO_OPEN) == [2.0] * FAILURES_TO_OPEN
    assert client.breaker_state == "open"
    assert all(0 < wait <= client_module.OPEN_FOR for wait in await fail(client, 5))
    assert len(user_service.requests) == FAILURES_TO_OPEN
    await client.close()


@pytest.mark.parametrize("success", [ACCEPTED, REJECTED], ids=["valid", "not valid"])
async def test_every_result_of_the_contract_is_a_success(
    client: AuthClient, user_service: UserServiceStub, success: tuple[int, bytes]
) -> None:
    for _ in range(2):
        user_service.answer = lambda _: ERROR
        await fail(client, FAILURES_TO_OPEN - 1)
        user_service.answer = lambda _: success
        with suppress(InvalidToken):
            await client.validate(ADA)
    assert client.breaker_state == "closed"


async def opened(client: AuthClient, user_service: UserServiceStub) -> None:
    """Let the breaker open, and wait until it allows a probe."""
    respond, user_service.answer = user_service.answer, lambda _: ERROR
    await fail(client, FAILURES_TO_OPEN)
    async with asyncio.timeout(5):
        while client.breaker_state != "half-open":  # noqa: ASYNC110 - time alone changes it.
            await asyncio.sleep(0.01)
    user_service.answer = respond
    user_service.requests.clear()


@pytest.mark.usefixtures("quick_probes")
async def test_while_one_request_probes_the_others_are_rejected_at_once(
    client: AuthClient, user_service: UserServiceStub, gate: threading.Event
) -> None:
    await opened(client, user_service)
    probe = asyncio.create_task(client.validate(ADA))
    await requests_arrived(user_service, 1)
    await fail(client, 5)
    assert len(user_service.requests) == 1
    gate.set()
    assert (await probe).user_id == 1
    assert client.breaker_state == "closed"
    assert (await client.validate(ADA)).user_id == 1


@pytest.mark.usefixtures("quick_probes")
async def test_after_a_cancelled_probe_the_next_request_probes(
    client: AuthClient, user_service: UserServiceStub, gate: threading.Event
) -> None:
    await opened(client, user_service)
    probe = asyncio.create_task(client.validate(ADA))
    await requests_arrived(user_service, 1)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    gate.set()
    assert (await client.validate(ADA)).user_id == 1
    assert client.breaker_state == "closed"


# Call slots


async def test_cancelled_validations_are_no_failures_and_release_their_call_slots(
    client: AuthClient, user_service: UserServiceStub, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 5)  # Twenty connections at once may take a busy machine a while.
    # Half of them call the user service, the others wait for a call slot.
    tasks = [asyncio.create_task(client.validate(ADA)) for _ in range(2 * CALL_SLOTS)]
    await requests_arrived(user_service, CALL_SLOTS)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in results} == {asyncio.CancelledError}
    assert len(user_service.requests) == CALL_SLOTS
    assert client.breaker_state == "closed"
    gate.set()
    callers = await asyncio.gather(*(client.validate(ADA) for _ in range(2 * CALL_SLOTS)))
    assert {caller.user_id for caller in callers} == {1}


@pytest.mark.usefixtures("gate")
async def test_a_validation_without_a_call_slot_fails_after_the_queue_timeout_and_makes_no_call(
    user_service: UserServiceStub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_module, "CALL_SLOTS", 1)
    client = AuthClient(user_service.url, timeout=0.4)
    started = time.monotonic()
    tasks = [asyncio.create_task(client.validate(ADA)) for _ in range(3)]
    await asyncio.wait(tasks[1:])
    # Shorter than the timeout, so that a call that starts has time left.
    assert time.monotonic() - started >= client._queue_timeout == pytest.approx(0.3)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert time.monotonic() - started < 4  # The user service hangs for 5 s.
    assert {type(each) for each in results} == {AuthUnavailable}
    assert len(user_service.requests) == 1
    events = sorted(line["event"] for line in log_lines(caplog))
    assert events == ["called user-service", *["no call slot for user-service became free in time"] * 2]
    await client.close()
