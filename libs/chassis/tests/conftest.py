"""Fixtures of the tests of chassis."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI

from testkit import library_api
from testkit.library import Base, Library, client_of, make_app, opened


@pytest.fixture
def library_url(empty_url: str) -> str:
    """The address of a database with the tables of the library."""
    with opened(empty_url) as database:  # Its first connection switches SQLite to a write-ahead log.
        Base.metadata.create_all(database._write_engine)
    return empty_url


@pytest.fixture
def library(library_url: str) -> Iterator[Library]:
    with opened(library_url) as database:
        yield database


@pytest.fixture
def narrow_library(library_url: str) -> Iterator[Library]:
    """A library with one connection for reads and one for writes."""
    with opened(library_url, pool_size=2) as database:
        yield database


@pytest.fixture
def app() -> FastAPI:
    """The HTTP API of the library, without a database."""
    return make_app(
        library_api.books(),
        library_api.failures(),
        library_api.small_bodies(),
        library_api.any_bodies(),
        authenticate=library_api.accept_any_token,
        max_body_bytes=2_000,
    )


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client
