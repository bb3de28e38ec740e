"""Fixtures for the tests of the user service."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from testkit import users
from testkit.applications import started
from testkit.databases import MigrationsOf
from testkit.users import KEY, UNLIMITED, MakeSettings
from user_service import main
from user_service.settings import Settings


@pytest.fixture(scope="session")
def migrations_of() -> MigrationsOf:
    return users.migrations_of


def settings(database_url: str, data_dir: Path, /, **changes: Any) -> Settings:
    """The cheapest hashes, and no rate limits."""
    values = {"database_url": database_url, "data_dir": data_dir, "secret_key": KEY.decode(), "bcrypt_cost": 4}
    values |= UNLIMITED
    return Settings(_env_file=None, **{**values, **changes})


@pytest.fixture
def make_settings(database_url: str, tmp_path: Path) -> MakeSettings:
    """A factory of settings, for tests that make applications themselves."""
    return partial(settings, database_url, tmp_path)


@pytest.fixture
async def own_app(make_settings: MakeSettings) -> AsyncIterator[FastAPI]:
    async with started(main.create_app(make_settings())) as app:
        yield app


@pytest.fixture(scope="module")
async def shared_app(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FastAPI]:
    async with started(main.create_app(settings(shared_url, tmp_path_factory.mktemp("data")))) as app:
        yield app
