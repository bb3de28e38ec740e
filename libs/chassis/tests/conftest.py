"""The fixtures of the chassis' own tests."""

from collections.abc import Iterator

import pytest

from testkit.library import Base, Library, opened
from testkit.plugin import NewDatabase


@pytest.fixture
def empty_url(new_database: NewDatabase) -> str:
    return new_database(None)


@pytest.fixture
def library_url(empty_url: str) -> str:
    """A database with the tables of the library."""
    with opened(empty_url) as database:  # It makes the write-ahead log of SQLite.
        Base.metadata.create_all(database._write_engine)
    return empty_url


@pytest.fixture
def library(library_url: str) -> Iterator[Library]:
    with opened(library_url) as database:
        yield database


@pytest.fixture
def narrow_library(library_url: str) -> Iterator[Library]:
    """One connection for reads, and one for writes."""
    with opened(library_url, pool_size=2) as database:
        yield database
