"""Throw-away databases for tests, on SQLite and on PostgreSQL.

Each test works on a real database: a copy of one that was migrated once. The tests of a module may share one that is
emptied after each of them. The database that the environment configures is never touched, because only databases made
here are emptied or dropped.
"""

import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from psycopg2.extensions import connection
from sqlalchemy import NullPool, create_engine, make_url

from chassis.database.migrations import Migrations
from chassis.database.url import as_text, normalise
from testkit.emptying import Shape, connect, overwrite, shape_of, try_to_empty

SQLITE, POSTGRESQL = "sqlite", "postgresql"

SERVER_URL_VARIABLE = "TEST_POSTGRES_URL"
"""The environment variable with the address of the PostgreSQL server for tests."""

MigrationsOf = Callable[[str], Migrations]
"""Makes the migrations of a service for the database with this address."""

NewDatabase = Callable[[MigrationsOf | None], str]
"""Makes a database for one test, migrated or empty, and returns its address."""


class Databases:
    """Makes databases on one of the two database systems, as copies of a migrated template, and deletes them.

    On PostgreSQL making a copy takes ten times as long as emptying a database. A database in which a test changed
    nothing but rows is therefore emptied and given to the next test.
    """

    def __init__(self, backend: str, folder: Path) -> None:
        """
        :param backend: SQLITE or POSTGRESQL
        :param folder: for the files of SQLite
        """
        self._folder = folder
        self._templates: dict[MigrationsOf | None, str] = {None: ""}
        self._shapes: dict[MigrationsOf | None, Shape] = {}
        self._emptied: defaultdict[MigrationsOf | None, list[str]] = defaultdict(list)
        # To connect takes longer than to empty a database.
        self._connections: dict[str, connection] = {}
        self._server = normalise(os.environ[SERVER_URL_VARIABLE]) if backend == POSTGRESQL else None

    @contextmanager
    def made(self) -> Iterator[NewDatabase]:
        """A function that makes databases; they are deleted or emptied when the context ends."""
        mine: list[tuple[MigrationsOf | None, str]] = []

        def make(migrations_of: MigrationsOf | None) -> str:
            if migrations_of not in self._templates:
                template = self._new_address()
                self._copy("", template)
                assert migrations_of is not None
                migrations_of(template).upgrade()
                self._templates[migrations_of] = template
                if self._server is not None:
                    self._shapes[migrations_of] = shape_of(template)
            if self._emptied[migrations_of]:
                address = self._emptied[migrations_of].pop()
            else:
                address = self._new_address()
                self._copy(self._templates[migrations_of], address)
            mine.append((migrations_of, address))
            return address

        try:
            yield make
        finally:
            for migrations_of, address in mine:
                if self._is_emptied(address, migrations_of):
                    self._emptied[migrations_of].append(address)
                else:
                    self._drop([address])

    def empty(self, address: str, migrations_of: MigrationsOf) -> None:
        """Take a database back to the state in which it was made, while an application stays connected.

        On SQLite, that undoes every change. On PostgreSQL, it raises AssertionError if more than rows was changed.
        """
        if self._server is None:
            overwrite(address, self._templates[migrations_of])
        else:
            connected = self._connections.get(address)
            if connected is None or connected.closed:
                connected = self._connections[address] = connect(address)
            assert try_to_empty(connected, self._shapes[migrations_of], shared=True), (
                "A test has changed more than the rows of the database that the tests of its module share."
            )

    def _is_emptied(self, address: str, migrations_of: MigrationsOf | None) -> bool:
        connected = self._connections.pop(address, None)
        if migrations_of not in self._shapes:
            return False
        with closing(connected or connect(address)) as connected:
            return try_to_empty(connected, self._shapes[migrations_of])

    def close(self) -> None:
        """Delete the templates and the emptied databases."""
        self._drop([template for template in self._templates.values() if template])
        self._drop([address for addresses in self._emptied.values() for address in addresses])

    def _new_address(self) -> str:
        name = f"twinlatch_test_{uuid.uuid4().hex}"
        if self._server is None:
            return f"sqlite:///{self._folder / name}.db"
        return as_text(make_url(self._server).set(database=name))

    def _copy(self, template: str, address: str) -> None:
        if self._server is not None:
            # Copying the files is twice as fast as logging their pages, which is the default.
            source = f'"{make_url(template).database}" STRATEGY FILE_COPY' if template else "template0"
            self._execute(f'CREATE DATABASE "{make_url(address).database}" TEMPLATE {source}')
        elif template:
            shutil.copy(str(make_url(template).database), str(make_url(address).database))

    def _drop(self, addresses: list[str]) -> None:
        for address in addresses:
            database = str(make_url(address).database)
            if self._server is not None:
                self._execute(f'DROP DATABASE "{database}" WITH (FORCE)')
                continue
            for file in (database, f"{database}-wal", f"{database}-shm"):
                Path(file).unlink(missing_ok=True)

    def _execute(self, statement: str) -> None:
        """Run a statement on the PostgreSQL server, outside a transaction."""
        assert self._server is not None
        engine = create_engine(self._server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


def check_every_migration(migrations: Migrations) -> None:
    """Take an empty database through every migration: up, down and up again, and finally back to the base."""
    previous = "base"
    assert migrations.head == migrations.revisions()[-1]
    for revision in migrations.revisions():
        migrations.upgrade(revision)
        migrations.downgrade(previous)
        migrations.upgrade(revision)
        previous = revision
    assert not migrations.upgrade(), "the last revision is not the head"
    migrations.downgrade("base")
