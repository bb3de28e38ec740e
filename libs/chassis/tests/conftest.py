"""The fixtures of the chassis' own tests."""

from collections.abc import Iterator

import pytest

from chassis.database.transactions import Database
from testkit.library import Base, opened
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
def library(library_url: str) -> Iterator[Database]:
    with opened(library_url) as database:
        yield database


@pytest.fixture
def narrow_library(library_url: str) -> Iterator[Database]:
    """One connection for reads, and one for writes."""
    with opened(library_url, pool_size=2) as database:
        yield database
