"""The fixtures of the product service's tests; `conftest.py` hands them on."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from product_list_support import Json, catalogue
from product_support import MakeSettings, UserServiceStub, store
from sqlalchemy import Engine

from chassis.migrations import Migrations
from chassis.testing import NewDatabase, running
from product_service import main
from product_service.settings import Settings


def migrations_of(url: str) -> Migrations:
    return main.migrations(Settings.model_construct(database_url=url))


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    return new_database(migrations_of)


@pytest.fixture
def user_service() -> Iterator[UserServiceStub]:
    """A stand-in for the user service, on a real socket."""
    with UserServiceStub() as stub:
        yield stub


@pytest.fixture
def empty_url(new_database: NewDatabase) -> str:
    return new_database(None)


@pytest.fixture
def make_settings(database_url: str, user_service: UserServiceStub) -> MakeSettings:
    """Settings for a test, on its own database, and with the stand-in for the user service."""

    def make(**changes: Any) -> Settings:
        values = {"database_url": database_url, "user_service_url": user_service.url}
        return Settings(_env_file=None, **{**values, **changes})

    return make


@pytest.fixture
def app(make_settings: MakeSettings) -> FastAPI:
    return main.create_app(make_settings())


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as client:
        yield client


@pytest.fixture
async def everything(client: httpx.AsyncClient, database: Engine) -> list[Json]:
    """The catalogue, stored, as it is answered."""
    store(database, catalogue())
    answer = await client.get("/products?limit=100")
    found: list[Json] = answer.json()
    assert len(found) == 60
    return found
