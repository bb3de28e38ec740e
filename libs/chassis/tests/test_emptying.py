"""On PostgreSQL a database goes from one test to the next: emptied, and only if it differs in nothing but rows."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from chassis.database.migrations import Migrations
from testkit.library import rows, told
from testkit.library_migrations import make_migrations
from testkit.plugin import Databases

pytestmark = pytest.mark.postgresql

ADD = "INSERT INTO shelves (name) VALUES ('a shelf')"


@pytest.fixture
def used(databases: Databases, tmp_path: Path) -> "Used":
    return Used(databases, tmp_path)


class Used:
    """Two tests one after the other, each with a database of its own."""

    def __init__(self, databases: Databases, folder: Path) -> None:
        self._databases = databases
        self._folder = folder

    def migrations_of(self, url: str) -> Migrations:
        return make_migrations(self._folder, url)

    def __call__(self, *statements: str, connected: bool = False) -> tuple[str, str]:
        """The addresses that both got, where the first one has run these statements, or is still connected."""
        migrations_of = self.migrations_of
        with ExitStack() as others:
            with self._databases.made() as make:
                first = make(migrations_of)
                with told(first) as connection:
                    for statement in statements:
                        connection.exec_driver_sql(statement.format(database=connection.engine.url.database))
                if connected:
                    others.enter_context(told(first))
            with self._databases.made() as make:
                second = make(migrations_of)
                # A new one has a shelf of the number 1, and so has an emptied one.
                assert rows(second, f"{ADD} RETURNING id") == [(1,)]
                assert rows(second, "SELECT count(*) FROM books") == [(0,)]
        return first, second


def test_what_differs_in_rows_alone_is_emptied_and_begins_to_count_anew(used: Used) -> None:
    first, second = used(ADD, "INSERT INTO books (title, shelf_id) VALUES ('Faust', 1)")
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
def test_what_differs_in_more_than_rows_is_taken_away(used: Used, statement: str) -> None:
    first, second = used(statement)
    assert first != second


def test_what_somebody_is_still_connected_to_is_taken_away(used: Used) -> None:
    first, second = used(connected=True)
    assert first != second
