"""Fixtures of the product service's tests."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from auth_client import pool
from product_service import main
from product_service.settings import Settings
from testkit.applications import running
from testkit.databases import NewDatabase
from testkit.product_list import Json, catalogue
from testkit.products import MakeSettings, migrations_of, store
from testkit.user_service_stub import UserServiceStub


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    return new_database(migrations_of)


@pytest.fixture
def empty_url(new_database: NewDatabase) -> str:
    return new_database(None)


@pytest.fixture
def make_settings(database_url: str, user_service: UserServiceStub) -> MakeSettings:
    """Settings with a database of its own and the stub of the user service.

    The timeouts are long, so that a busy machine does not cause an error; tests of a timeout set a short one.
    """

    def make(**changes: Any) -> Settings:
        values: dict[str, Any] = {"database_url": database_url, "user_service_url": user_service.url}
        values |= {"database_pool_timeout": 20, "database_timeout": 40, "validation_timeout": 20}
        return Settings(_env_file=None, **{**values, **changes})

    return make


@pytest.fixture(autouse=True)
def patient_connections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine connect to the stub of the user service; the table of faults has limits of its own."""
    if not request.module.__name__.endswith("test_token_validation_faults"):
        monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 20)


@pytest.fixture
def app(make_settings: MakeSettings) -> FastAPI:
    return main.create_app(make_settings())


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as client:
        yield client


@pytest.fixture
async def everything(client: httpx.AsyncClient, database: Engine) -> list[Json]:
    """The stored test catalogue, as the API returns it."""
    store(database, catalogue())
    answer = await client.get("/products?limit=100")
    found: list[Json] = answer.json()
    assert len(found) == 60
    return found
