"""The client of the seam, against a stand-in for the user service on a real socket.

The whole table of faults, byte by byte, is played through in tests/; here is what the client makes of an answer.
"""

import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from product_support import ADA, CONTRACT, VALID, UserServiceStub
from pydantic import SecretStr

from chassis.errors import InvalidToken
from product_service import identity
from product_service.errors import AuthUnavailable
from product_service.identity import Caller, IdentityClient
from product_service.settings import Settings


@pytest.fixture
async def client(user_service: UserServiceStub) -> AsyncIterator[IdentityClient]:
    client = IdentityClient(user_service.url, timeout=1)
    yield client
    await client.close()


@pytest.mark.parametrize("interaction", CONTRACT["interactions"], ids=lambda each: each["given"])
async def test_the_contract_is_understood(
    client: IdentityClient, user_service: UserServiceStub, interaction: dict[str, Any]
) -> None:
    user_service.answer = lambda _: (interaction["status"], json.dumps(interaction["body"]).encode())
    if interaction["outcome"] == "caller":
        assert await client.identify(ADA) == Caller(user_id=1, username="ada", roles=("user",))
    else:
        with pytest.raises(InvalidToken):
            await client.identify(ADA)


async def test_the_question_is_the_one_of_the_contract(client: IdentityClient, user_service: UserServiceStub) -> None:
    await client.identify(ADA)
    [(token, headers)] = user_service.requests
    assert token == ADA
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers


BROKEN = {
    "an error": (500, b"{}"),
    "no service key": (401, b'{"code": "invalid-service-key"}'),
    "forbidden": (403, b"{}"),
    "not found": (404, b"{}"),
    "invalid": (422, b"{}"),
    "too many": (429, b"{}"),
    "unavailable": (503, b"{}"),
    "a redirect": (307, b""),
    "a good answer with another status": (201, json.dumps(VALID).encode()),
    "nothing": (200, b""),
    "not JSON": (200, b"<html>"),
    "truncated": (200, json.dumps(VALID).encode()[:-1]),
    "null": (200, b"null"),
    "a list": (200, b"[]"),
    "an empty object": (200, b"{}"),
    "valid as a number": (200, json.dumps({**VALID, "valid": 1}).encode()),
    "valid as a text": (200, json.dumps({**VALID, "valid": "true"}).encode()),
    "valid without a user": (200, b'{"valid": true, "message": "?"}'),
    "a user of another type": (200, json.dumps({**VALID, "user_id": "1"}).encode()),
    "nobody": (200, json.dumps({**VALID, "user_id": 0}).encode()),
    "true for a user": (200, json.dumps({**VALID, "user_id": True}).encode()),
    "roles of another type": (200, json.dumps({**VALID, "roles": "admin"}).encode()),
    "a user beyond 64 bits": (200, json.dumps({**VALID, "user_id": 2**63}).encode()),
    "too much": (200, json.dumps({**VALID, "more": "x" * identity.LARGEST_ANSWER}).encode()),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_is_not_the_contract_lets_nobody_in_and_blames_nobody(
    client: IdentityClient, user_service: UserServiceStub, answer: tuple[int, bytes]
) -> None:
    user_service.answer = lambda _: answer
    with pytest.raises(AuthUnavailable):
        await client.identify(ADA)


async def test_the_service_key_is_shown_where_there_is_one(user_service: UserServiceStub) -> None:
    client = IdentityClient(user_service.url, timeout=1, service_key="a key of our own")
    await client.identify(ADA)
    await client.close()
    [(_, headers)] = user_service.requests
    assert headers["x-service-key"] == "a key of our own"


async def test_fields_that_it_does_not_know_do_no_harm(client: IdentityClient, user_service: UserServiceStub) -> None:
    user_service.answer = lambda _: (200, json.dumps({**VALID, "session_id": "7", "new": 1}).encode())
    assert (await client.identify(ADA)).user_id == 1


async def test_a_service_that_refuses_connections_is_unavailable(
    client: IdentityClient, user_service: UserServiceStub
) -> None:
    user_service.stop()
    with pytest.raises(AuthUnavailable):
        await client.identify(ADA)


async def test_a_service_that_accepts_and_says_nothing_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = IdentityClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
        started = time.monotonic()
        with pytest.raises(AuthUnavailable):
            await client.identify(ADA)
        await client.close()
    assert time.monotonic() - started < 0.3 + 1


async def test_an_answer_that_comes_byte_by_byte_does_not_stretch_the_deadline() -> None:
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not stop.wait(0.05):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        client = IdentityClient(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.3)
        started = time.monotonic()
        with pytest.raises(AuthUnavailable):
            await client.identify(ADA)
        elapsed = time.monotonic() - started
        stop.set()
        thread.join()
        await client.close()
    assert elapsed < 0.3 + 1


async def test_neither_proxies_from_the_environment_nor_redirects_get_a_token(
    user_service: UserServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    client = IdentityClient(user_service.url, timeout=1)
    assert (await client.identify(ADA)).user_id == 1
    await client.close()


async def test_a_redirect_gets_no_token(client: IdentityClient, user_service: UserServiceStub) -> None:
    with UserServiceStub() as elsewhere:
        user_service.answer_headers = {"Location": f"{elsewhere.url}/validate-token"}
        user_service.answer = lambda _: (307, b"")
        with pytest.raises(AuthUnavailable):
            await client.identify(ADA)
        assert elsewhere.requests == []


async def test_connections_are_kept_open_between_validations(
    client: IdentityClient, user_service: UserServiceStub
) -> None:
    for _ in range(5):
        await client.identify(ADA)
    assert len({headers["x-test-client-port"] for _, headers in user_service.requests}) == 1


async def test_every_request_is_a_validation_of_its_own(client: IdentityClient, user_service: UserServiceStub) -> None:
    assert (await client.identify(ADA)).user_id == 1
    user_service.answer = lambda _: (200, b'{"valid": false, "message": "revoked"}')
    with pytest.raises(InvalidToken):
        await client.identify(ADA)
    assert len(user_service.requests) == 2


async def test_health_is_asked_at_most_every_five_seconds(
    client: IdentityClient, user_service: UserServiceStub
) -> None:
    assert await client.answers()
    user_service.stop()
    assert await client.answers()
    client._health_asked -= identity.HEALTH_EVERY
    assert not await client.answers()


@pytest.mark.parametrize("key", ["too-short", "with a space " * 4, "x" * 40 + "\n", "\u00e9" * 40, "with,commas" * 4])
def test_a_service_key_that_no_header_can_hold_or_the_user_service_cannot_have_stops_the_start(key: str) -> None:
    with pytest.raises(ValueError, match="32 or more letters, digits and signs without a comma") as refusal:
        Settings(_env_file=None, service_key=SecretStr(key))
    assert key not in str(refusal.value)


@pytest.mark.parametrize(("status", "level"), [(200, "INFO"), (401, "WARNING")])
async def test_a_question_that_was_not_answered_is_a_warning_in_the_log(
    client: IdentityClient, user_service: UserServiceStub, caplog: pytest.LogCaptureFixture, status: int, level: str
) -> None:
    user_service.answer = lambda _: (status, json.dumps(VALID).encode())
    with suppress(AuthUnavailable):
        await client.identify(ADA)
    assert caplog.records[-1].levelname == level
