"""The metrics of token validations."""

import asyncio
import json
import threading

import pytest

from auth_client import client as client_module
from auth_client.client import CALL_SLOTS, FAILURES_TO_OPEN, AuthClient
from auth_client.errors import AuthUnavailable
from chassis.errors import InvalidToken
from testkit.metrics import increases
from testkit.user_service_stub import ADA, VALID, UserServiceStub

VALIDATIONS = "token_validation_duration_seconds_count"
ACCEPTED = (200, json.dumps(VALID).encode())


def closed_gate(user_service: UserServiceStub) -> threading.Event:
    """Keeps all responses back until it is set."""
    gate = threading.Event()

    def wait(_: str) -> tuple[int, bytes]:
        gate.wait(5)
        return ACCEPTED

    user_service.answer = wait
    return gate


async def test_each_outcome_is_counted(client: AuthClient, user_service: UserServiceStub) -> None:
    with increases() as increase:
        await client.validate(ADA)
        with pytest.raises(InvalidToken):
            await client.validate("revoked")
        gate = closed_gate(user_service)
        waiting = asyncio.ensure_future(client.validate(ADA))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        user_service.stop()
        with pytest.raises(AuthUnavailable):
            await client.validate(ADA)
        counts = {
            outcome: increase(VALIDATIONS, outcome=outcome)
            for outcome in ("valid", "refused", "unavailable", "cancelled")
        }
        assert counts == dict.fromkeys(counts, 1)


async def test_the_breaker_is_open_until_a_probe_succeeds(
    user_service: UserServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "OPEN_FOR", 0.05)
    client = AuthClient(user_service.url, timeout=5)
    with increases() as increase:
        user_service.answer = lambda _: (500, b"{}")
        for expected in [0] * (FAILURES_TO_OPEN - 1) + [1]:
            with pytest.raises(AuthUnavailable):
                await client.validate(ADA)
            assert increase("token_validation_breaker_open") == expected
        await asyncio.sleep(0.06)
        with pytest.raises(AuthUnavailable):
            await client.validate(ADA)
        assert increase("token_validation_breaker_open") == 1
        user_service.answer = lambda _: ACCEPTED
        await asyncio.sleep(0.06)
        await client.validate(ADA)
        assert increase("token_validation_breaker_open") == 0
    await client.close()


async def test_validations_without_a_call_slot_wait(client: AuthClient, user_service: UserServiceStub) -> None:
    gate = closed_gate(user_service)
    with increases() as increase:
        calls = [asyncio.ensure_future(client.validate(ADA)) for _ in range(CALL_SLOTS + 3)]
        await asyncio.sleep(0)
        assert increase("token_validation_waiting") == 3
        gate.set()
        await asyncio.gather(*calls)
        assert increase("token_validation_waiting") == 0
