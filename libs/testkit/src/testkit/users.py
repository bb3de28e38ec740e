"""Helpers for the tests of user-service."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from sqlalchemy import Engine, text

from chassis.database.migrations import Migrations
from user_service import composition
from user_service.settings import Settings

KEY = b"a key for tests that is long enough to sign with"
PASSWORD = "correct horse battery staple"
UNLIMITED = {name: "off" for name in Settings.model_fields if re.fullmatch("rate_limit_.*(?<!_url)", name)}
"""Settings without rate limits, for tests that log in often."""

MakeSettings = Callable[..., Settings]


def migrations_of(url: str) -> Migrations:
    return composition.migrations(Settings.model_construct(database_url=url))


@dataclass(frozen=True)
class Person:
    """A user who has logged in."""

    user_id: int
    username: str
    token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


async def sign_up(client: httpx.AsyncClient, username: str = "ada") -> Person:
    registration = await client.post("/register", json={"username": username, "password": PASSWORD})
    assert registration.status_code == 201, registration.text
    return await log_in(client, registration.json()["id"], username)


async def log_in(client: httpx.AsyncClient, user_id: int, username: str, password: str = PASSWORD) -> Person:
    login = await client.post("/login", data={"username": username, "password": password})
    assert login.status_code == 200, login.text
    return Person(user_id, username, login.json()["access_token"], login.json()["refresh_token"])


async def an_admin(client: httpx.AsyncClient, database: Engine, username: str = "chief") -> Person:
    person = await sign_up(client, username)
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET is_admin = true WHERE id = :id"), {"id": person.user_id})
    return person
