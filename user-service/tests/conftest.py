"""Fixtures for the tests of the user service."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from testkit.applications import running
from testkit.databases import NewDatabase
from testkit.users import KEY, UNLIMITED, MakeSettings, migrations_of
from user_service import main
from user_service.settings import Settings


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    return new_database(migrations_of)


@pytest.fixture
def empty_url(new_database: NewDatabase) -> str:
    return new_database(None)


@pytest.fixture
def make_settings(database_url: str, tmp_path: Path) -> MakeSettings:
    """A factory of settings for the database of the test, with the cheapest hashes and without rate limits."""

    def make(**changes: Any) -> Settings:
        values = {"database_url": database_url, "data_dir": tmp_path, "secret_key": KEY.decode(), "bcrypt_cost": 4}
        values |= UNLIMITED
        return Settings(_env_file=None, **{**values, **changes})

    return make


@pytest.fixture
def app(make_settings: MakeSettings) -> FastAPI:
    return main.create_app(make_settings())


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with running(app) as client:
        yield client
