"""Fixtures of the product service's tests."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from auth_client import pool
from product_service import main
from product_service.settings import Settings
from testkit import products
from testkit.applications import started
from testkit.databases import MigrationsOf
from testkit.product_list import Json, catalogue
from testkit.products import MakeSettings, store
from testkit.user_service_stub import UserServiceStub


@pytest.fixture(scope="session")
def migrations_of() -> MigrationsOf:
    return products.migrations_of


@pytest.fixture
def own_user_service() -> Iterator[UserServiceStub]:
    with UserServiceStub() as stub:
        yield stub


@pytest.fixture(scope="module")
def shared_user_service() -> Iterator[UserServiceStub]:
    with UserServiceStub() as stub:
        yield stub


@pytest.fixture
def user_service(request: pytest.FixtureRequest, variant: str) -> UserServiceStub:
    """The stub that the application depends on. Only tests that are `alone` stop it or change its answers."""
    stub: UserServiceStub = request.getfixturevalue(f"{variant}_user_service")
    stub.requests.clear()
    return stub


def settings(database_url: str, user_service: UserServiceStub, /, **changes: Any) -> Settings:
    """Long timeouts, so that a busy machine does not cause an error; tests of a timeout set a short one."""
    values: dict[str, Any] = {"database_url": database_url, "user_service_url": user_service.url}
    values |= {"database_pool_timeout": 20, "database_timeout": 40, "validation_timeout": 20}
    return Settings(_env_file=None, **{**values, **changes})


@pytest.fixture
def make_settings(database_url: str, user_service: UserServiceStub) -> MakeSettings:
    """A factory of settings, for tests that make applications themselves."""
    return partial(settings, database_url, user_service)


@pytest.fixture(autouse=True)
def patient_connections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine connect to the stub of the user service; the table of faults has limits of its own."""
    if not request.module.__name__.endswith("test_token_validation_faults"):
        monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 20)


@pytest.fixture
async def own_app(make_settings: MakeSettings) -> AsyncIterator[FastAPI]:
    async with started(main.create_app(make_settings())) as app:
        yield app


@pytest.fixture(scope="module")
async def shared_app(shared_url: str, shared_user_service: UserServiceStub) -> AsyncIterator[FastAPI]:
    async with started(main.create_app(settings(shared_url, shared_user_service))) as app:
        yield app


@pytest.fixture
async def everything(client: httpx.AsyncClient, database: Engine) -> list[Json]:
    """The stored test catalogue, as the API returns it."""
    store(database, catalogue())
    answer = await client.get("/products?limit=100")
    found: list[Json] = answer.json()
    assert len(found) == 60
    return found
