"""REGISTRATION and RESERVED_USERNAMES."""

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine

from testkit.applications import running
from testkit.users import PASSWORD, MakeSettings, Person, an_admin, log_in
from user_service.main import create_app
from user_service.settings import Settings

GRACE = {"username": "grace", "password": PASSWORD}


async def first_admin(make_settings: MakeSettings, database: Engine) -> Person:
    async with running(create_app(make_settings())) as client:
        return await an_admin(client, database)


async def test_closed_registration_leaves_creating_accounts_to_admins(
    make_settings: MakeSettings, database: Engine
) -> None:
    admin = await first_admin(make_settings, database)
    async with running(create_app(make_settings(registration="closed"))) as client:
        for headers in ({}, admin.headers):
            answer = await client.post("/register", json=GRACE, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "registration-closed")
            taken = await client.post("/register", json={**GRACE, "username": "chief"}, headers=headers)
            assert taken.json()["code"] == "registration-closed"
        created = await client.post("/users", json=GRACE, headers=admin.headers)
        assert created.status_code == 201
        await log_in(client, created.json()["id"], "grace")


@pytest.mark.parametrize("name", [*Settings.model_fields["reserved_usernames"].default, "Admin", "ROOT"])
async def test_a_reserved_username_cannot_be_registered(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post("/register", json={"username": name, "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")
    assert answer.json()["errors"] == [{"pointer": "/username", "detail": "This username is reserved"}]


async def test_admins_can_give_a_reserved_username(client: httpx.AsyncClient, database: Engine) -> None:
    admin = await an_admin(client, database)
    created = await client.post("/users", json={**GRACE, "username": "support"}, headers=admin.headers)
    assert created.status_code == 201
    patch = {"username": "Root"}
    renamed = await client.patch(f"/users/{admin.user_id}", json=patch, headers=admin.headers)
    assert (renamed.status_code, renamed.json()["username"]) == (200, "Root")


async def test_the_reserved_usernames_are_configurable(make_settings: MakeSettings) -> None:
    async with running(create_app(make_settings(reserved_usernames="Twinlatch, owner"))) as client:
        statuses = [
            (await client.post("/register", json={"username": name, "password": PASSWORD})).status_code
            for name in ("twinlatch", "OWNER", "owner2", "admin")
        ]
    assert statuses == [422, 422, 201, 201]


@pytest.mark.parametrize("change", [{"registration": "invite"}, {"reserved_usernames": "admin, the boss"}])
def test_invalid_settings_are_rejected(make_settings: MakeSettings, change: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        make_settings(**change)
