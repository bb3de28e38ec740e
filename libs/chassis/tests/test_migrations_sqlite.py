"""`chassis.database.migrations` on SQLite: re-created tables, ids, and damaged or unusual files."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from chassis.database.migrations import Migrations
from chassis.database.refusals import MigrationRefused
from chassis.errors import DatabaseBusy, DatabaseUnavailable
from testkit.library import Base, opened, rows, sqlite_connection
from testkit.library_migrations import BROKEN, FIRST, SECOND, make_migrations, write_migrations


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "library.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def migrations(tmp_path: Path, url: str) -> Migrations:
    return make_migrations(tmp_path, url)


def fill(file: Path) -> None:
    with sqlite_connection(file) as connection:
        connection.execute("INSERT INTO shelves (name) VALUES ('poems'), ('plays')")
        connection.execute("INSERT INTO books (title, shelf_id) VALUES ('Faust', 2), ('Howl', 1), ('Lost', NULL)")


SHELVES = "SELECT id, name FROM shelves ORDER BY id"
BOOKS = "SELECT id, title, shelf_id FROM books ORDER BY id"
STORED = ([(1, "poems"), (2, "plays")], [(1, "Faust", 2), (2, "Howl", 1), (3, "Lost", None)])


def stored(url: str) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    return rows(url, SHELVES), rows(url, BOOKS)


def test_a_recreated_table_keeps_constraints_and_never_reuses_ids(migrations: Migrations, file: Path, url: str) -> None:
    migrations.upgrade()
    fill(file)
    with sqlite_connection(file) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM shelves WHERE id = 2")
    migrations.downgrade("0001")
    migrations.upgrade()
    with sqlite_connection(file) as connection:
        connection.execute("INSERT INTO shelves (name) VALUES ('prose')")
    assert rows(url, SHELVES) == [(1, "poems"), (3, "prose")]
    assert rows(url, "SELECT title FROM books") == [("Howl",), ("Lost",)]
    assert "uq_shelves_name" in str(rows(url, "SELECT sql FROM sqlite_master WHERE name = 'shelves'"))


def test_a_migration_that_would_reuse_ids_is_refused(tmp_path: Path, file: Path, url: str) -> None:
    make_migrations(tmp_path, url, [FIRST]).upgrade()
    fill(file)
    careless = make_migrations(tmp_path, url, [FIRST, SECOND.replace(", table_kwargs=KEEP", "")])
    with pytest.raises(MigrationRefused, match=r"^the table shelves would reuse ids: "):
        careless.upgrade()
    assert stored(url) == STORED


def test_a_migration_that_breaks_foreign_keys_is_rolled_back(tmp_path: Path, file: Path, url: str) -> None:
    make_migrations(tmp_path, url, [FIRST, SECOND]).upgrade("0001")
    fill(file)
    broken = make_migrations(tmp_path, url, [FIRST, SECOND, BROKEN])
    with pytest.raises(MigrationRefused, match=r"^2 rows would refer to rows that no longer exist$"):
        broken.upgrade()
    assert stored(url) == STORED
    assert rows(url, "SELECT version_num FROM alembic_version") == [("0001",)]


def test_a_file_that_is_not_a_database_is_refused(migrations: Migrations, file: Path) -> None:
    file.write_bytes(b"no database " * 1000)
    with pytest.raises(MigrationRefused, match=r"^.*file is not a database$"):
        migrations.upgrade()


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    migrations = make_migrations(tmp_path, f"sqlite:///{tmp_path / 'file' / 'folder' / 'library.db'}")
    with pytest.raises(MigrationRefused, match=r"^the folder of the database can't be created: [^\n]+$"):
        migrations.upgrade()


def test_a_locked_database_is_refused(migrations: Migrations, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.database.migrations._LOCK_TIMEOUT", 0.05)
    with sqlite_connection(file) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MigrationRefused, match=r"^.*database is locked$"):
            migrations.upgrade()


async def test_the_state_is_an_error_if_the_database_is_unavailable_or_locked(
    file: Path, url: str, migrations: Migrations
) -> None:
    with opened(url, pool_size=2, pool_timeout=0.2) as database:
        with sqlite_connection(file) as other:
            other.execute("PRAGMA journal_mode = DELETE")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(DatabaseBusy):
                await database.inspect(migrations.state)
        await asyncio.to_thread(file.write_bytes, b"no database " * 1000)
        with pytest.raises(DatabaseUnavailable):
            await database.inspect(migrations.state)


async def test_writes_are_busy_during_a_migration(url: str, migrations: Migrations) -> None:
    migrations.upgrade()
    with opened(url, pool_size=2, pool_timeout=0.2) as database:
        await database.ping()
        with migrations.locked(), pytest.raises(DatabaseBusy):
            await database.write(lambda session: session.execute(text("SELECT 1")))


@pytest.mark.parametrize("name", ["with space", "100%", "%(here)s", "%20", "naïve ☕", "a:b", "semi;colon"])
def test_paths_may_contain_special_characters(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    url = f"sqlite:///{(folder / 'data' / 'library.db').as_posix().replace('%', '%25')}"
    migrations = Migrations(write_migrations(folder, FIRST, SECOND), Base.metadata, url)
    assert migrations.upgrade()
    assert rows(url, "SELECT version_num FROM alembic_version") == [("0002",)]
