"""Helpers for tests of backups."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, NullPool, create_engine, select

from testkit.databases import POSTGRESQL, SERVER_URL_VARIABLE, SQLITE, Databases, NewDatabase


def all_rows(url: str, metadata: MetaData) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a migrated database, by table."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        tables = metadata.sorted_tables
        return {
            each.name: [tuple(row) for row in connection.execute(select(each).order_by(*each.primary_key))]
            for each in tables
        }


@contextmanager
def other_databases(backend: str, folder: Path) -> Iterator[NewDatabase]:
    """Makes databases on the other database system. With `--sqlite-only`, skips the test."""
    other = POSTGRESQL if backend == SQLITE else SQLITE
    if other == POSTGRESQL and SERVER_URL_VARIABLE not in os.environ:
        pytest.skip("--sqlite-only")
    databases = Databases(other, folder)
    with databases.made() as new_database:
        yield new_database
    databases.close()
