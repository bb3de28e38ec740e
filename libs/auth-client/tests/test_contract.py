"""The contract of `POST /validate-token`, from the consumer's side.

The client sends the request of the contract, and understands each of its responses. In the fields that it reads it
accepts everything that the schema allows, and nothing else; the other fields may hold anything. `test_validation.py` of
the user service replays the same file there, so that a change on one side alone fails.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest

from auth_client.caller import Caller
from auth_client.client import AuthClient
from auth_client.errors import AuthUnavailable
from chassis.errors import InvalidToken
from testkit.user_service_stub import CONTRACT

EVERY = [*CONTRACT["interactions"], *CONTRACT["refusals"]]
VALID, EXPIRED = CONTRACT["interactions"][:2]
OF_VALID = CONTRACT["schema"]["oneOf"][0]["properties"]
SCHEMA = jsonschema.Draft202012Validator(CONTRACT["schema"])
TOKEN, SERVICE_KEY = "a.token", "a-key-of-the-product-service-for-tests"

READ = ["valid", "user_id", "username", "roles"]
NOT_READ = [*(name for name in OF_VALID if name not in READ), "a_new_field"]

ABSENT = object()
CANDIDATES: list[Any] = [
    *(ABSENT, None, True, False, "true", "false", "", "0", "1", "ada", "admin", "user,admin", "\u00e9" * 50),
    *(-(2**63), -1, 0, 1, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**30, 0.5, 1e300),
    *([], [""], ["user"], ["user", "admin"], ["admin", "a-new-role"], [1], [None], [True], ["user", 1], [["user"]]),
    *({}, {"user": True}, "2099-01-01T00:00:00Z", "2099-01-01", 4070908800),
]
"""Values for any field: allowed in one of them, at its limits, or allowed in none."""


class Provider:
    """Sends the same response to every request, and records the requests."""

    def __init__(self) -> None:
        self.response: dict[str, Any] = VALID
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """The first line, the headers and the body of each request."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.requests.append((first, headers, await reader.readexactly(int(headers["content-length"]))))
        content = json.dumps(self.response["body"])
        sent = {**self.response["headers"], "Content-Length": len(content), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        writer.write(f"HTTP/1.1 {self.response['status']} Status\r\n{head}\r\n{content}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[AuthClient]:
    async with await asyncio.start_server(provider.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = AuthClient(f"http://127.0.0.1:{port}", timeout=5, service_key=SERVICE_KEY)
        yield client
        await client.close()


def with_field(body: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {key: each for key, each in {**body, name: value}.items() if each is not ABSENT}


async def outcome(
    client: AuthClient, provider: Provider, interaction: dict[str, Any], body: dict[str, Any] | None = None
) -> str:
    """The outcome of this response, with another body if one is given, in the words of the contract."""
    provider.response = interaction if body is None else {**interaction, "body": body}
    try:
        caller = await client.validate(TOKEN)
    except InvalidToken:
        return "invalid-token"
    except AuthUnavailable:
        return "auth-unavailable"
    sent = provider.response["body"]
    assert caller == Caller(sent["user_id"], sent["username"], tuple(sent["roles"]))
    return "caller"


def test_every_example_of_the_contract_follows_its_schema() -> None:
    for interaction in CONTRACT["interactions"]:
        SCHEMA.validate(interaction["body"])
    # An error response can't be mistaken for the result of a validation.
    assert not any(SCHEMA.is_valid(refusal["body"]) for refusal in CONTRACT["refusals"])
    assert {each["outcome"] for each in EVERY} == {"caller", "invalid-token", "auth-unavailable"}


async def test_the_request_is_the_one_of_the_contract(client: AuthClient, provider: Provider) -> None:
    await client.validate(TOKEN)
    [(first, headers, body)] = provider.requests
    wanted = CONTRACT["request"]
    assert first == f"{wanted['method']} {wanted['path']} HTTP/1.1"
    seen = {name: headers.get(name.lower(), "").replace(SERVICE_KEY, "SERVICE_KEY") for name in wanted["headers"]}
    assert seen == wanted["headers"]
    assert json.loads(body.replace(TOKEN.encode(), b"TOKEN")) == wanted["body"]
    assert "authorization" not in headers
    # In a URL or a header the token could end up in the logs of others.
    assert TOKEN not in first + str(headers)


@pytest.mark.parametrize("interaction", EVERY, ids=lambda each: each["given"])
async def test_each_response_of_the_contract_has_its_outcome(
    client: AuthClient, provider: Provider, interaction: dict[str, Any]
) -> None:
    assert await outcome(client, provider, interaction) == interaction["outcome"]


async def test_an_admin_is_recognised_by_the_roles_of_the_contract(client: AuthClient, provider: Provider) -> None:
    of_a_user, of_an_admin = OF_VALID["roles"]["examples"]
    for roles, is_admin in ((of_a_user, False), (of_an_admin, True)):
        provider.response = {**VALID, "body": {**VALID["body"], "roles": roles}}
        assert (await client.validate(TOKEN)).is_admin == is_admin


@pytest.mark.parametrize(
    ("interaction", "name"),
    [*((VALID, name) for name in READ), (EXPIRED, "valid")],
    ids=[*(f"{name} of a valid token" for name in READ), "valid of an expired token"],
)
async def test_a_field_that_is_read_may_hold_what_the_schema_allows_and_nothing_else(
    client: AuthClient, provider: Provider, interaction: dict[str, Any], name: str
) -> None:
    expected, actual = [], []
    for candidate in CANDIDATES:
        body = with_field(interaction["body"], name, candidate)
        wanted = interaction["outcome"] if SCHEMA.is_valid(body) else "auth-unavailable"
        expected.append((candidate, wanted))
        actual.append((candidate, await outcome(client, provider, interaction, body)))
        if wanted == "auth-unavailable":
            # After several failures in a row the breaker would open.
            assert await outcome(client, provider, VALID) == "caller"
    assert actual == expected
    assert {wanted for _, wanted in expected} == {interaction["outcome"], "auth-unavailable"}


@pytest.mark.parametrize("interaction", [VALID, EXPIRED], ids=lambda each: each["given"])
async def test_fields_that_are_not_read_may_hold_anything(
    client: AuthClient, provider: Provider, interaction: dict[str, Any]
) -> None:
    for candidate in CANDIDATES:
        body = interaction["body"]
        for name in NOT_READ:
            body = with_field(body, name, candidate)
        assert await outcome(client, provider, interaction, body) == interaction["outcome"], candidate
