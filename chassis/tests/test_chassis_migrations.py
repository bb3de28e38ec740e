"""`chassis.migrations` on real SQLite files, with small migrations of a library, in one process and in several."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from chassis_support import BROKEN, FIRST, SECOND, Base, beside, make_migrations, rows, write_migrations
from sqlalchemy import MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.database import Database
from chassis.errors import DatabaseBusy, DatabaseUnavailable
from chassis.migrations import MigrationRefused, Migrations
from chassis.models import COLUMN_TYPES, NAMING_CONVENTION, NEVER_REUSE_IDS, Numbered
from chassis.testing import climb_up_and_down


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "library.db"


@pytest.fixture
def migrations(tmp_path: Path, file: Path) -> Migrations:
    return make_migrations(tmp_path, file)


def fill(file: Path) -> None:
    with beside(file) as connection:
        connection.execute("INSERT INTO shelves (name) VALUES ('poems'), ('plays')")
        connection.execute("INSERT INTO books (title, shelf_id) VALUES ('Faust', 2), ('Howl', 1), ('Lost', NULL)")


SHELVES = "SELECT id, name FROM shelves ORDER BY id"
BOOKS = "SELECT id, title, shelf_id FROM books ORDER BY id"
STORED = ([(1, "poems"), (2, "plays")], [(1, "Faust", 2), (2, "Howl", 1), (3, "Lost", None)])


def stored(file: Path) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    return rows(file, SHELVES), rows(file, BOOKS)


def test_an_upgrade_says_whether_there_was_anything_to_do(migrations: Migrations, file: Path) -> None:
    assert migrations.upgrade()
    assert not migrations.upgrade()
    assert rows(file, "SELECT version_num FROM alembic_version") == [("0002",)]
    assert migrations.head == "0002"


def test_migrations_go_up_and_down_and_up_again_with_every_row_kept(migrations: Migrations, file: Path) -> None:
    migrations.upgrade("0001")
    fill(file)
    for step in (
        lambda: migrations.upgrade("0002"),
        lambda: migrations.downgrade("0001"),
        lambda: migrations.upgrade(),
    ):
        step()
        # The books belong to the shelves, and would go with them when the table is made anew.
        assert stored(file) == STORED


def test_the_way_down_to_the_base_and_up_again_leaves_an_empty_library(migrations: Migrations, file: Path) -> None:
    migrations.upgrade()
    fill(file)
    migrations.downgrade("base")
    assert rows(file, "SELECT name FROM sqlite_master WHERE name IN ('books', 'shelves')") == []
    assert migrations.upgrade()
    assert stored(file) == ([], [])


def test_every_migration_is_climbed_up_and_down(migrations: Migrations, file: Path) -> None:
    climb_up_and_down(migrations)
    assert migrations.revisions() == ["0001", "0002"]


def test_a_table_that_was_made_anew_has_its_constraints_and_never_reuses_an_id(
    migrations: Migrations, file: Path
) -> None:
    migrations.upgrade()
    fill(file)
    with beside(file) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM shelves WHERE id = 2")
    migrations.downgrade("0001")
    migrations.upgrade()
    with beside(file) as connection:
        connection.execute("INSERT INTO shelves (name) VALUES ('prose')")
    assert rows(file, SHELVES) == [(1, "poems"), (3, "prose")]
    assert rows(file, "SELECT title FROM books") == [("Howl",), ("Lost",)]
    assert "uq_shelves_name" in str(rows(file, "SELECT sql FROM sqlite_master WHERE name = 'shelves'"))


def test_a_migration_after_which_ids_would_be_used_again_is_refused(tmp_path: Path, file: Path) -> None:
    make_migrations(tmp_path, file, [FIRST]).upgrade()
    fill(file)
    careless = make_migrations(tmp_path, file, [FIRST, SECOND.replace(", table_kwargs=KEEP", "")])
    with pytest.raises(MigrationRefused, match=r"^the table shelves would use ids again: "):
        careless.upgrade()
    assert stored(file) == STORED


def test_a_migration_that_leaves_rows_without_their_parent_is_rolled_back_whole(tmp_path: Path, file: Path) -> None:
    make_migrations(tmp_path, file, [FIRST, SECOND]).upgrade("0001")
    fill(file)
    broken = make_migrations(tmp_path, file, [FIRST, SECOND, BROKEN])
    with pytest.raises(MigrationRefused, match=r"^2 rows would be left without the row they refer to$"):
        broken.upgrade()
    assert stored(file) == STORED
    assert rows(file, "SELECT version_num FROM alembic_version") == [("0001",)]


def test_a_migration_that_fails_half_way_leaves_nothing_of_itself_or_of_those_before_it(
    tmp_path: Path, file: Path
) -> None:
    failing = BROKEN.replace('op.execute("DELETE FROM shelves")', "raise LookupError")
    with pytest.raises(LookupError):
        make_migrations(tmp_path, file, [FIRST, SECOND, failing]).upgrade()
    assert rows(file, "SELECT name FROM sqlite_master") == []


def test_a_database_of_an_unknown_revision_is_refused_in_one_line(tmp_path: Path, file: Path) -> None:
    make_migrations(tmp_path / "new", file).upgrade()
    older = make_migrations(tmp_path / "old", file, [FIRST])
    with pytest.raises(MigrationRefused) as refusal:
        older.upgrade()
    message = str(refusal.value)
    assert "at revision 0002, which this version does not know" in message
    assert "\n" not in message
    assert rows(file, "SELECT version_num FROM alembic_version") == [("0002",)]


def test_a_file_that_is_no_database_is_refused_in_one_line(migrations: Migrations, file: Path) -> None:
    file.write_bytes(b"no database " * 1000)
    with pytest.raises(MigrationRefused, match=r"^.*file is not a database$"):
        migrations.upgrade()


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    migrations = make_migrations(tmp_path, tmp_path / "file" / "folder" / "library.db")
    with pytest.raises(MigrationRefused, match=r"^the folder of the database cannot be made: [^\n]+$"):
        migrations.upgrade()


def test_a_database_that_stays_locked_is_refused_in_one_line(
    migrations: Migrations, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.migrations._LOCK_TIMEOUT", 0.05)
    with beside(file) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MigrationRefused, match=r"^.*database is locked$"):
            migrations.upgrade()


MIGRATOR = """
import sys
from pathlib import Path
from sqlalchemy import MetaData
from chassis.migrations import Migrations

migrations = Migrations(Path(sys.argv[1]), MetaData(), sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(migrations.upgrade())
"""


def test_of_several_processes_at_once_one_migrates_and_the_others_find_it_done(tmp_path: Path, file: Path) -> None:
    folder = write_migrations(tmp_path, FIRST, SECOND)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATOR, str(folder), f"sqlite:///{file}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in processes]
    assert sorted(output for output, _ in answers) == ["False\n", "False\n", "True\n"], answers
    assert rows(file, "SELECT version_num FROM alembic_version") == [("0002",)]


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{file}", 2, 0.2)
    yield database
    database.close()


async def test_an_empty_database_an_old_one_and_a_newer_one_are_not_current(
    tmp_path: Path, file: Path, database: Database, migrations: Migrations
) -> None:
    assert not await database.read(migrations.is_current)
    migrations.upgrade("0001")
    assert not await database.read(migrations.is_current)
    migrations.upgrade()
    assert await database.read(migrations.is_current)
    migrations.downgrade("base")
    assert not await database.read(migrations.is_current)
    older = make_migrations(tmp_path / "old", file, [FIRST])
    migrations.upgrade()
    assert not await database.read(older.is_current)


async def test_whether_a_database_that_is_away_or_locked_is_current_is_not_known(
    file: Path, database: Database, migrations: Migrations
) -> None:
    with beside(file) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseBusy):
            await database.read(migrations.is_current)
    await asyncio.to_thread(file.write_bytes, b"no database " * 1000)
    with pytest.raises(DatabaseUnavailable):
        await database.read(migrations.is_current)


@pytest.mark.parametrize("name", ["with space", "100%", "%(here)s", "%20", "naïve ☕", "a:b", "semi;colon"])
def test_the_path_may_hold_what_paths_hold(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    url = f"sqlite:///{(folder / 'data' / 'library.db').as_posix().replace('%', '%25')}"
    migrations = Migrations(write_migrations(folder, FIRST, SECOND), Base.metadata, url)
    assert migrations.upgrade()
    assert rows(folder / "data" / "library.db", "SELECT version_num FROM alembic_version") == [("0002",)]


class Later(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = COLUMN_TYPES


class Loan(Numbered, Later):
    __tablename__ = "loans"
    __table_args__ = (NEVER_REUSE_IDS,)

    reader: Mapped[str] = mapped_column(String(50), unique=True)
    until: Mapped[datetime]


def test_a_revision_is_written_in_plain_types_with_the_next_number_and_can_be_climbed(
    tmp_path: Path, file: Path
) -> None:
    folder = tmp_path / "library" / "migrations"
    folder.mkdir(parents=True)
    migrations = Migrations(folder, Later.metadata, f"sqlite:///{file}")
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

    again = Migrations(folder, Later.metadata, f"sqlite:///{file}")
    climb_up_and_down(again)
    again.upgrade()
    assert again.differences() == []
    second = again.write_revision("Nothing")
    assert second.name == "library_0002_nothing.py"
    assert 'down_revision = "library_0001"' in second.read_text(encoding="utf-8")


def test_models_that_drifted_from_their_migrations_are_found(tmp_path: Path, file: Path) -> None:
    migrations = Migrations(write_migrations(tmp_path, FIRST), Later.metadata, f"sqlite:///{file}")
    migrations.upgrade()
    assert {difference[0] for difference in migrations.differences()} >= {"add_table", "remove_table"}


async def test_readers_go_on_while_a_migration_runs(file: Path, database: Database, migrations: Migrations) -> None:
    migrations.upgrade()
    await database.ping()  # the service has run before: its first connection makes the write-ahead log
    with migrations._locked():
        assert await asyncio.wait_for(database.read(migrations.is_current), 5)
        with pytest.raises(DatabaseBusy):
            await database.write(migrations.is_current)
