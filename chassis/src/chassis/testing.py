"""Fixtures for the tests of both services, as a pytest plugin; nothing else imports this module.

A test works on a real database, made for it and gone after it: a copy of one that was migrated once. The database
that the environment configures is never touched, for no test sees the environment's settings.
"""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from chassis.migrations import Migrations
from chassis.settings import ServiceSettings

MigrationsOf = Callable[[str], Migrations]
"""Makes the migrations of a service for the database at this address."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's DATABASE_URL is not for tests."""
    known = {
        name.upper() for each in (ServiceSettings, *ServiceSettings.__subclasses__()) for name in each.model_fields
    }
    for name in known & os.environ.keys():
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def migrated_template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[MigrationsOf], Path]:
    """Migrates a database of a service once in a session, for others to be copied from."""
    templates: dict[str, Path] = {}

    def make(migrations_of: MigrationsOf) -> Path:
        key = f"{migrations_of.__module__}.{migrations_of.__qualname__}"
        if key not in templates:
            path = tmp_path_factory.mktemp("template") / "template.db"
            migrations_of(f"sqlite:///{path}").upgrade()
            templates[key] = path
        return templates[key]

    return make


@pytest.fixture
def new_database(tmp_path: Path, migrated_template: Callable[[MigrationsOf], Path]) -> Callable[[MigrationsOf], str]:
    """Makes a migrated, empty database for one test, and gives its address."""

    def make(migrations_of: MigrationsOf) -> str:
        path = tmp_path / f"{len(list(tmp_path.glob('*.db')))}.db"
        shutil.copy(migrated_template(migrations_of), path)
        return f"sqlite:///{path}"

    return make


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The application between its start and its end, and a client that talks to it without a socket."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client
