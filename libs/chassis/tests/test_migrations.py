"""Migrations on both databases, with small migrations of a library, in one process and in several."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, NullPool, String, create_engine, inspect, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.database.migrations import MigrationRefused, Migrations
from chassis.database.models import COLUMN_TYPES, NAMING_CONVENTION, NEVER_REUSE_IDS, Numbered
from testkit.library import Library, opened, rows, told
from testkit.library_migrations import BROKEN, FIRST, SECOND, make_migrations, write_migrations
from testkit.plugin import climb_up_and_down


@pytest.fixture
def migrations(tmp_path: Path, empty_url: str) -> Migrations:
    return make_migrations(tmp_path, empty_url)


def fill(url: str) -> None:
    with told(url) as connection:
        connection.exec_driver_sql("INSERT INTO shelves (name, kind) VALUES ('poems', 'verse'), ('plays', 'prose')")
        connection.exec_driver_sql(
            "INSERT INTO books (title, shelf_id) VALUES ('Faust', 2), ('Howl', 1), ('Lost', NULL)"
        )


SHELVES = "SELECT id, name, kind FROM shelves ORDER BY id"
BOOKS = "SELECT id, title, shelf_id FROM books ORDER BY id"
REVISION = "SELECT version_num FROM alembic_version"
STORED = ([(1, "poems", "verse"), (2, "plays", "prose")], [(1, "Faust", 2), (2, "Howl", 1), (3, "Lost", None)])


def stored(url: str) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    return rows(url, SHELVES), rows(url, BOOKS)


def everything_in(url: str) -> set[str]:
    """The names of all that a migration can make: tables, indexes, sequences, types."""
    if make_url(url).get_backend_name() == "sqlite":
        statement = "SELECT name FROM sqlite_master"
    else:
        statement = (
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')"
        )
    return {str(name) for (name,) in rows(url, statement)}


ALEMBICS = {"alembic_version", "alembic_version_pkc", "sqlite_autoindex_alembic_version_1", "sqlite_sequence"}


def test_an_upgrade_says_whether_there_was_anything_to_do(migrations: Migrations, empty_url: str) -> None:
    assert migrations.upgrade()
    assert not migrations.upgrade()
    assert rows(empty_url, REVISION) == [("0002",)]
    assert migrations.head == "0002"


def test_migrations_go_up_and_down_and_up_again_with_every_row_kept(migrations: Migrations, empty_url: str) -> None:
    migrations.upgrade("0001")
    fill(empty_url)
    for step in (
        lambda: migrations.upgrade("0002"),
        lambda: migrations.downgrade("0001"),
        lambda: migrations.upgrade(),
    ):
        step()
        # The books belong to the shelves, and on SQLite would go with them when the table is made anew.
        assert stored(empty_url) == STORED


def test_the_way_down_to_the_base_leaves_nothing_and_the_way_up_again_an_empty_library(
    migrations: Migrations, empty_url: str
) -> None:
    migrations.upgrade()
    assert {"shelves", "books"} < everything_in(empty_url) - ALEMBICS
    fill(empty_url)
    migrations.downgrade("base")
    assert everything_in(empty_url) <= ALEMBICS
    assert migrations.upgrade()
    assert stored(empty_url) == ([], [])


def test_every_migration_is_climbed_up_and_down(migrations: Migrations, empty_url: str) -> None:
    climb_up_and_down(migrations)
    assert migrations.revisions() == ["0001", "0002"]
    assert everything_in(empty_url) <= ALEMBICS


def test_constraints_and_indexes_have_their_names_at_every_revision(migrations: Migrations, empty_url: str) -> None:
    on_sqlite = make_url(empty_url).get_backend_name() == "sqlite"

    def names() -> set[str | None]:
        found = inspect(create_engine(empty_url, poolclass=NullPool))
        named = [*found.get_foreign_keys("books"), *found.get_indexes("books")]
        for table in ("shelves", "books"):
            named += [*found.get_unique_constraints(table), *found.get_check_constraints(table)]
            # SQLite keeps no name of a primary key.
            named += [] if on_sqlite else [found.get_pk_constraint(table)]
        return {each["name"] for each in named}

    expected = {
        *("uq_shelves_name", "uq_books_title"),
        *("ck_shelves_name_is_not_empty", "fk_books_shelf_id_shelves", "ix_books_shelf_id"),
        *(() if on_sqlite else ("pk_shelves", "pk_books")),
    }
    for go in (
        lambda: migrations.upgrade("0001"),
        lambda: migrations.upgrade("0002"),
        lambda: migrations.downgrade("0001"),
    ):
        go()
        assert names() == expected


def test_a_migration_that_fails_half_way_leaves_nothing_of_itself_or_of_those_before_it(
    tmp_path: Path, empty_url: str
) -> None:
    failing = BROKEN.replace('op.execute("DELETE FROM shelves")', "raise LookupError")
    with pytest.raises(LookupError):
        make_migrations(tmp_path, empty_url, [FIRST, SECOND, failing]).upgrade()
    assert everything_in(empty_url) == set()


def test_a_migration_that_fails_half_way_leaves_the_rows_as_they_were(tmp_path: Path, empty_url: str) -> None:
    make_migrations(tmp_path, empty_url).upgrade("0001")
    fill(empty_url)
    failing = BROKEN.replace('op.execute("DELETE FROM shelves")', "raise LookupError")
    with pytest.raises(LookupError):
        make_migrations(tmp_path, empty_url, [FIRST, SECOND, failing]).upgrade()
    assert stored(empty_url) == STORED
    assert rows(empty_url, REVISION) == [("0001",)]


def test_a_database_of_an_unknown_revision_is_refused_in_one_line(tmp_path: Path, empty_url: str) -> None:
    make_migrations(tmp_path / "new", empty_url).upgrade()
    before = everything_in(empty_url)
    older = make_migrations(tmp_path / "old", empty_url, [FIRST])
    with pytest.raises(MigrationRefused) as refusal:
        older.upgrade()
    message = str(refusal.value)
    assert "at revision 0002, which this version does not know" in message
    assert "\n" not in message
    assert rows(empty_url, REVISION) == [("0002",)]
    assert everything_in(empty_url) == before


MIGRATOR = """
import sys
from pathlib import Path
from sqlalchemy import MetaData
from chassis.database.migrations import Migrations

migrations = Migrations(Path(sys.argv[1]), MetaData(), sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(migrations.upgrade())
"""


def test_of_several_processes_at_once_one_migrates_and_the_others_find_it_done(tmp_path: Path, empty_url: str) -> None:
    folder = write_migrations(tmp_path, FIRST, SECOND)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATOR, str(folder), empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    assert sorted(output for output, _ in answers) == ["False\n"] * 4 + ["True\n"], answers
    assert rows(empty_url, REVISION) == [("0002",)]


@pytest.fixture
def database(empty_url: str) -> Iterator[Library]:
    with opened(empty_url, pool_size=2, pool_timeout=0.2) as database:
        yield database


async def test_an_empty_database_an_old_one_and_a_newer_one_are_not_current(
    tmp_path: Path, empty_url: str, database: Library, migrations: Migrations
) -> None:
    assert not await database.read(migrations.is_current)
    migrations.upgrade("0001")
    assert not await database.read(migrations.is_current)
    migrations.upgrade()
    assert await database.read(migrations.is_current)
    migrations.downgrade("base")
    assert not await database.read(migrations.is_current)
    older = make_migrations(tmp_path / "old", empty_url, [FIRST])
    migrations.upgrade()
    assert not await database.read(older.is_current)


async def test_readers_go_on_while_a_migration_runs(database: Library, migrations: Migrations) -> None:
    migrations.upgrade()
    await database.ping()  # the service has run before: on SQLite its first connection makes the write-ahead log
    with migrations._locked():
        assert await asyncio.wait_for(database.read(migrations.is_current), 5)


class Later(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = COLUMN_TYPES


class Loan(Numbered, Later):
    __tablename__ = "loans"
    __table_args__ = (NEVER_REUSE_IDS,)

    reader: Mapped[str] = mapped_column(String(50), unique=True)
    until: Mapped[datetime]


def test_a_revision_is_written_in_plain_types_with_the_next_number_and_can_be_climbed(
    tmp_path: Path, empty_url: str
) -> None:
    folder = tmp_path / "library" / "migrations"
    folder.mkdir(parents=True)
    migrations = Migrations(folder, Later.metadata, empty_url)
    written = migrations.write_revision("Loans of ISBN numbers")
    text = written.read_text(encoding="utf-8")
    assert written.parent == folder
    assert written.name == "library_0001_loans_of_isbn_numbers.py"
    assert text.startswith('"""Loans of ISBN numbers."""')
    assert 'revision = "library_0001"' in text
    assert "down_revision = None" in text
    assert "sa.DateTime(timezone=True)" in text
    assert "chassis" not in text
    assert "sqlite_autoincrement=True" in text
    assert "uq_loans_reader" in text

    again = Migrations(folder, Later.metadata, empty_url)
    climb_up_and_down(again)
    again.upgrade()
    assert again.differences() == []
    second = again.write_revision("Nothing")
    assert second.name == "library_0002_nothing.py"
    assert 'down_revision = "library_0001"' in second.read_text(encoding="utf-8")


def test_models_that_drifted_from_their_migrations_are_found(tmp_path: Path, empty_url: str) -> None:
    migrations = Migrations(write_migrations(tmp_path, FIRST), Later.metadata, empty_url)
    migrations.upgrade()
    assert {difference[0] for difference in migrations.differences()} >= {"add_table", "remove_table"}


def test_what_only_one_of_the_databases_knows_is_left_to_the_migrations(tmp_path: Path, empty_url: str) -> None:
    folder = write_migrations(tmp_path, FIRST)
    Migrations(folder, MetaData(), empty_url).upgrade()
    names = {"shelves", "books"}
    assert {each[1].name for each in Migrations(folder, MetaData(), empty_url).differences()} >= names
    assert Migrations(folder, MetaData(), empty_url, names).differences() == []


@pytest.mark.postgresql
class TestOnPostgreSQL:
    def test_a_type_that_a_downgrade_forgot_is_found(self, tmp_path: Path, empty_url: str) -> None:
        careless = make_migrations(tmp_path, empty_url, [FIRST.replace("    KIND.drop(op.get_bind())\n", "")])
        careless.upgrade()
        careless.downgrade("base")
        assert everything_in(empty_url) - ALEMBICS == {"shelf_kind"}

    def test_a_migration_that_somebody_else_is_at_is_waited_for_and_in_the_end_refused_in_one_line(
        self, tmp_path: Path, empty_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chassis.database.migrations._LOCK_TIMEOUT", 0.2)
        with make_migrations(tmp_path / "one", empty_url)._locked():
            other = make_migrations(tmp_path / "other", empty_url)
            with pytest.raises(MigrationRefused, match=r"^[^\n]*lock timeout$"):
                other.upgrade()

    def test_a_server_or_a_database_that_is_not_there_is_refused_in_one_line(
        self, tmp_path: Path, empty_url: str
    ) -> None:
        url = make_url(empty_url)
        for away in (url.set(database="seam_test_nowhere"), url.set(port=1)):
            migrations = make_migrations(tmp_path, away.render_as_string(hide_password=False))
            with pytest.raises(
                MigrationRefused, match=r"^the database cannot be reached or is locked: [^\n]+$"
            ) as refusal:
                migrations.upgrade()
            assert str(url.password) not in str(refusal.value)

    def test_who_may_not_make_tables_is_refused_in_one_line(self, tmp_path: Path, empty_url: str) -> None:
        role = str(make_url(empty_url).database).replace("seam_test", "seam_test_role")
        with told(empty_url) as connection:
            connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'secret of the role'")
            connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        try:
            theirs = make_url(empty_url).set(username=role, password="secret of the role")
            migrations = make_migrations(tmp_path, theirs.render_as_string(hide_password=False))
            with pytest.raises(MigrationRefused, match=r"^the database does not allow it: permission denied[^\n]+$"):
                migrations.upgrade()
        finally:
            with told(empty_url) as connection:
                connection.exec_driver_sql(f"DROP ROLE {role}")
