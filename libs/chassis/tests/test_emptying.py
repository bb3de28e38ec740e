"""`testkit.emptying`: on PostgreSQL, a database is reused for the next test only if nothing but rows has changed."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from chassis.database.migrations import Migrations
from testkit.databases import Databases
from testkit.library import connection_to, eventually, rows
from testkit.library_migrations import make_migrations

ADD = "INSERT INTO shelves (name) VALUES ('a shelf')"


@pytest.fixture
def two_tests(databases: Databases, tmp_path: Path) -> "TwoTests":
    return TwoTests(databases, tmp_path)


class TwoTests:
    """Simulates two consecutive tests that each get a database."""

    def __init__(self, databases: Databases, folder: Path) -> None:
        self._databases = databases
        self._folder = folder

    def migrations_of(self, url: str) -> Migrations:
        return make_migrations(self._folder, url)

    def __call__(self, *statements: str, connected: bool = False) -> tuple[str, str]:
        """Return both addresses; the first test runs the statements, and may keep a connection open."""
        migrations_of = self.migrations_of
        with ExitStack() as others:
            with self._databases.made() as make:
                first = make(migrations_of)
                with connection_to(first) as connection:
                    for statement in statements:
                        connection.exec_driver_sql(statement.format(database=connection.engine.url.database))
                if connected:
                    others.enter_context(connection_to(first))
            with self._databases.made() as make:
                second = make(migrations_of)
                # Both new and emptied databases start with id 1.
                assert rows(second, f"{ADD} RETURNING id") == [(1,)]
                assert rows(second, "SELECT count(*) FROM books") == [(0,)]
        return first, second


@pytest.mark.postgresql
def test_a_database_with_changed_rows_is_emptied_and_restarts_its_ids(two_tests: TwoTests) -> None:
    first, second = two_tests(ADD, "INSERT INTO books (title, shelf_id) VALUES ('Faust', 1)")
    assert first == second


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE shelves ADD COLUMN colour text",
        "CREATE TABLE more (id int)",
        "ALTER TABLE shelves DROP CONSTRAINT uq_shelves_name",
        "ALTER DATABASE \"{database}\" SET timezone = 'Asia/Tokyo'",
        "UPDATE alembic_version SET version_num = '0001'",
        "DROP TABLE alembic_version",
    ],
)
def test_a_database_with_other_changes_is_dropped(two_tests: TwoTests, statement: str) -> None:
    first, second = two_tests(statement)
    assert first != second


@pytest.mark.postgresql
def test_a_database_with_open_connections_is_dropped(two_tests: TwoTests) -> None:
    first, second = two_tests(connected=True)
    assert first != second


def test_a_shared_database_is_emptied_while_an_application_is_connected(databases: Databases, tmp_path: Path) -> None:
    migrations_of = partial(make_migrations, tmp_path)
    with databases.made() as make:
        address = make(migrations_of)
        engine = create_engine(address)
        for _ in range(2):
            with engine.begin() as application:
                assert application.exec_driver_sql(f"{ADD} RETURNING id").scalar_one() == 1
            databases.empty(address, migrations_of)
            with engine.begin() as application:
                assert application.exec_driver_sql("SELECT count(*) FROM shelves").scalar_one() == 0
        engine.dispose()


@pytest.mark.postgresql
def test_rows_that_an_application_still_writes_are_deleted_as_well(databases: Databases, tmp_path: Path) -> None:
    migrations_of = partial(make_migrations, tmp_path)
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'shelves'::regclass AND NOT granted"
    with databases.made() as make, ThreadPoolExecutor(1) as pool:
        address = make(migrations_of)
        with connection_to(address) as application:
            application.exec_driver_sql(ADD)
            emptied = pool.submit(databases.empty, address, migrations_of)
            eventually(lambda: rows(address, waiting) == [(1,)])
        emptied.result(30)
        assert rows(address, "SELECT count(*) FROM shelves") == [(0,)]


@pytest.mark.postgresql
def test_a_test_that_breaks_a_shared_database_fails(databases: Databases, tmp_path: Path) -> None:
    migrations_of = partial(make_migrations, tmp_path)
    with databases.made() as make:
        address = make(migrations_of)
        with connection_to(address) as connection:
            connection.exec_driver_sql("DROP TABLE books")
        with pytest.raises(AssertionError, match="more than the rows"):
            databases.empty(address, migrations_of)
