"""`testkit.emptying`: a PostgreSQL database is reused for the next test only if nothing but rows has changed."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from chassis.database.migrations import Migrations
from testkit.databases import Databases
from testkit.library import connection_to, rows
from testkit.library_migrations import make_migrations

pytestmark = pytest.mark.postgresql

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


def test_a_database_with_changed_rows_is_emptied_and_restarts_its_ids(two_tests: TwoTests) -> None:
    first, second = two_tests(ADD, "INSERT INTO books (title, shelf_id) VALUES ('Faust', 1)")
    assert first == second


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


def test_a_database_with_open_connections_is_dropped(two_tests: TwoTests) -> None:
    first, second = two_tests(connected=True)
    assert first != second
