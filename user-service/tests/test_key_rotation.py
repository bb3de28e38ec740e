"""Key rotation: accept the new key everywhere, sign with it, and remove the old one after its last token expires."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import httpx
import pytest

from testkit.applications import running
from testkit.users import KEY, MakeSettings, Person, sign_up
from user_service.main import create_app

OLD, NEW = KEY.decode(), KEY.decode()[::-1]


@asynccontextmanager
async def replica(
    make_settings: MakeSettings, signing_key: str, *accepted_keys: str
) -> AsyncIterator[httpx.AsyncClient]:
    async with running(
        create_app(make_settings(secret_key=signing_key, secret_keys_accepted=list(accepted_keys)))
    ) as client:
        yield client


async def is_valid(client: httpx.AsyncClient, person: Person) -> bool:
    return (await client.get("/me", headers=person.headers)).status_code == 200


async def test_no_valid_token_is_rejected_while_replicas_change_keys(make_settings: MakeSettings) -> None:
    """Two replicas of one service go through the steps one at a time."""
    steps = [(OLD, ()), (OLD, (NEW,)), (NEW, (OLD,))]
    people: list[Person] = []
    # While one replica restarts for a step, the other still runs with the step before.
    for before, after in pairwise(steps):
        async with (
            replica(make_settings, before[0], *before[1]) as one,
            replica(make_settings, after[0], *after[1]) as other,
        ):
            for number, client in enumerate((one, other)):
                people.append(await sign_up(client, f"person-{len(people)}-{number}"))
            for client in (one, other):
                assert all([await is_valid(client, person) for person in people])
                person = people.pop()
                answer = await client.post("/refresh", json={"refresh_token": person.refresh_token})
                assert answer.status_code == 200
                body = answer.json()
                people.append(Person(person.user_id, person.username, body["access_token"], body["refresh_token"]))


async def test_tokens_of_a_removed_key_are_rejected(make_settings: MakeSettings) -> None:
    async with replica(make_settings, OLD) as client:
        ada = await sign_up(client)
    async with replica(make_settings, NEW) as client:
        assert not await is_valid(client, ada)
    async with replica(make_settings, NEW, OLD) as client:
        assert await is_valid(client, ada)


async def test_replicas_with_different_keys_return_the_same_successor(make_settings: MakeSettings) -> None:
    async with replica(make_settings, OLD, NEW) as before, replica(make_settings, NEW, OLD) as after:
        ada = await sign_up(before)
        first = await before.post("/refresh", json={"refresh_token": ada.refresh_token})
        again = await after.post("/refresh", json={"refresh_token": ada.refresh_token})
        assert again.status_code == 200
        assert first.json()["refresh_token"] == again.json()["refresh_token"]


async def test_a_session_survives_the_removal_of_its_key(make_settings: MakeSettings) -> None:
    async with replica(make_settings, OLD) as client:
        ada = await sign_up(client)
    async with replica(make_settings, NEW) as client:
        answer = await client.post("/refresh", json={"refresh_token": ada.refresh_token})
    assert answer.status_code == 200


@pytest.mark.parametrize("accepted", ["too short", KEY.decode() + ",too short"])
def test_a_short_key_is_rejected(make_settings: MakeSettings, accepted: str) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes") as error:
        make_settings(secret_keys_accepted=accepted)
    assert "too short" not in str(error.value)
