"""`chassis.database.migrations` on both databases, in one process and in several."""

import asyncio
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, NullPool, String, create_engine, inspect, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.database.migrations import Migrations, SchemaState
from chassis.database.models import COLUMN_TYPES, NAMING_CONVENTION, NEVER_REUSE_IDS, Numbered
from chassis.database.refusals import MigrationRefused
from testkit import preloaded
from testkit.databases import check_every_migration
from testkit.library import Library, connection_to, eventually, opened, path_of, role_without_permissions, rows
from testkit.library_migrations import BROKEN, FIRST, SECOND, make_migrations, write_migrations


@pytest.fixture
def migrations(tmp_path: Path, empty_url: str) -> Migrations:
    return make_migrations(tmp_path, empty_url)


def fill(url: str) -> None:
    with connection_to(url) as connection:
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


def all_names_in(url: str) -> set[str]:
    """The names of everything that migrations create: tables, indexes, sequences and types."""
    if make_url(url).get_backend_name() == "sqlite":
        statement = "SELECT name FROM sqlite_master"
    else:
        statement = (
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')"
        )
    return {str(name) for (name,) in rows(url, statement)}


LEFT_AT_BASE = {"alembic_version", "alembic_version_pkc", "sqlite_autoindex_alembic_version_1", "sqlite_sequence"}


def test_upgrade_returns_whether_anything_changed(migrations: Migrations, empty_url: str) -> None:
    assert migrations.upgrade()
    assert not migrations.upgrade()
    assert rows(empty_url, REVISION) == [("0002",)]
    assert migrations.head == "0002"


def test_a_command_requires_a_migrated_database(migrations: Migrations, empty_url: str) -> None:
    where = re.escape(str(make_url(empty_url).database))
    # On SQLite, the file does not exist yet.
    with pytest.raises(MigrationRefused, match=f"(there is no|the) database at .*{where}"):
        migrations.require_current()
    migrations.upgrade("0001")
    with pytest.raises(MigrationRefused, match=f"the database at .*{where} is not migrated to this version"):
        migrations.require_current()
    migrations.upgrade()
    migrations.require_current()
    with connection_to(empty_url) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("UPDATE schema_compatibility SET floor = '9999'")
    with pytest.raises(MigrationRefused, match=rf"revision 9999, which this version does not know.*{where}\)"):
        migrations.require_current()


def test_a_missing_database_is_not_created(tmp_path: Path, empty_url: str) -> None:
    url = make_url(empty_url)
    is_sqlite = url.get_backend_name() == "sqlite"
    missing = url.set(database=str(tmp_path / "a folder" / "missing.db") if is_sqlite else "missing")
    migrations = make_migrations(tmp_path, missing.render_as_string(hide_password=False))
    with pytest.raises(MigrationRefused) as raised:
        migrations.require_current()
    assert "missing" in str(raised.value)
    assert url.password is None or url.password not in str(raised.value)
    assert not (tmp_path / "a folder").exists()


@pytest.mark.postgresql
def test_a_read_only_database_is_not_migrated(migrations: Migrations, empty_url: str) -> None:
    with connection_to(empty_url) as connection:
        name = make_url(empty_url).database
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with pytest.raises(MigrationRefused, match=r"^the database is a standby or read-only: "):
        migrations.upgrade()


@pytest.mark.postgresql
def test_a_database_with_another_encoding_is_not_migrated(tmp_path: Path, empty_url: str) -> None:
    url = make_url(empty_url)
    name = f"{url.database}_latin1"
    admin = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            migrations = make_migrations(tmp_path, url.set(database=name).render_as_string(hide_password=False))
            with pytest.raises(
                MigrationRefused, match=r"^the database has the encoding LATIN1: create it with ENCODING"
            ):
                migrations.upgrade()
            with pytest.raises(MigrationRefused, match=r"^the database has the encoding LATIN1"), migrations.locked():
                pass
        finally:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


def test_upgrades_and_downgrades_keep_all_rows(migrations: Migrations, empty_url: str) -> None:
    migrations.upgrade("0001")
    fill(empty_url)
    for step in (
        lambda: migrations.upgrade("0002"),
        lambda: migrations.downgrade("0001"),
        lambda: migrations.upgrade(),
    ):
        step()
        # On SQLite, re-creating the table of shelves would delete the books by cascade.
        assert stored(empty_url) == STORED


def test_a_downgrade_to_base_removes_everything(migrations: Migrations, empty_url: str) -> None:
    migrations.upgrade()
    assert {"shelves", "books"} < all_names_in(empty_url) - LEFT_AT_BASE
    fill(empty_url)
    migrations.downgrade("base")
    assert all_names_in(empty_url) <= LEFT_AT_BASE
    assert migrations.upgrade()
    assert stored(empty_url) == ([], [])


def test_check_every_migration_runs_all_of_them(migrations: Migrations, empty_url: str) -> None:
    check_every_migration(migrations)
    assert migrations.revisions() == ["0001", "0002"]
    assert all_names_in(empty_url) <= LEFT_AT_BASE


def test_constraints_and_indexes_keep_their_names(migrations: Migrations, empty_url: str) -> None:
    on_sqlite = make_url(empty_url).get_backend_name() == "sqlite"

    def names() -> set[str | None]:
        found = inspect(create_engine(empty_url, poolclass=NullPool))
        named = [*found.get_foreign_keys("books"), *found.get_indexes("books")]
        for table in ("shelves", "books"):
            named += [*found.get_unique_constraints(table), *found.get_check_constraints(table)]
            # SQLite doesn't store the names of primary keys.
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


def test_a_dry_run_migrates_and_rolls_back(tmp_path: Path, migrations: Migrations, empty_url: str) -> None:
    if make_url(empty_url).get_backend_name() == "sqlite":
        with pytest.raises(MigrationRefused, match="there is no database at"):
            migrations.upgrade(dry_run=True)
        assert not path_of(empty_url).exists()
        path_of(empty_url).touch()
    assert migrations.upgrade(dry_run=True)
    assert all_names_in(empty_url) == set()
    refusing = BROKEN.replace('op.execute("DELETE FROM shelves")', "raise LookupError")
    with pytest.raises(LookupError):
        make_migrations(tmp_path / "refusing", empty_url, [FIRST, SECOND, refusing]).upgrade(dry_run=True)
    assert migrations.upgrade()
    assert not migrations.upgrade(dry_run=True)
    assert rows(empty_url, REVISION) == [("0002",)]


def test_a_failed_upgrade_rolls_back_all_migrations(tmp_path: Path, empty_url: str) -> None:
    failing = BROKEN.replace('op.execute("DELETE FROM shelves")', "raise LookupError")
    with pytest.raises(LookupError):
        make_migrations(tmp_path, empty_url, [FIRST, SECOND, failing]).upgrade()
    assert all_names_in(empty_url) == set()


def test_a_failed_upgrade_keeps_all_rows(tmp_path: Path, empty_url: str) -> None:
    make_migrations(tmp_path, empty_url).upgrade("0001")
    fill(empty_url)
    failing = BROKEN.replace('op.execute("DELETE FROM shelves")', "raise LookupError")
    with pytest.raises(LookupError):
        make_migrations(tmp_path, empty_url, [FIRST, SECOND, failing]).upgrade()
    assert stored(empty_url) == STORED
    assert rows(empty_url, REVISION) == [("0001",)]


MIGRATOR = """
import sys
import time
from pathlib import Path
from sqlalchemy import MetaData
from chassis.database.migrations import Migrations

migrations = Migrations(Path(sys.argv[1]), MetaData(), sys.argv[2])
print("ready", flush=True)
while not Path("go").exists():
    time.sleep(0.001)
print(migrations.upgrade())
"""


def test_only_one_of_several_processes_migrates(tmp_path: Path, empty_url: str) -> None:
    folder = write_migrations(tmp_path, FIRST, SECOND)
    (tmp_path / "migrator.py").write_text(MIGRATOR, encoding="utf-8")
    outputs = [tmp_path / f"output-{number}" for number in range(5)]
    arguments = [str(folder), empty_url]
    processes = [preloaded.start("migrator", arguments, tmp_path, os.environ, output) for output in outputs]

    def ready() -> bool:
        return all(output.exists() and output.read_text(encoding="utf-8") == "ready\n" for output in outputs)

    eventually(ready)
    (tmp_path / "go").touch()
    for process in processes:
        process.join(300)
    answers = [output.read_text(encoding="utf-8") for output in outputs]
    assert sorted(answers) == ["ready\nFalse\n"] * 4 + ["ready\nTrue\n"]
    assert rows(empty_url, REVISION) == [("0002",)]


@pytest.fixture
def database(empty_url: str) -> Iterator[Library]:
    with opened(empty_url, pool_size=2, pool_timeout=0.2) as database:
        yield database


async def test_empty_and_older_databases_are_behind(database: Library, migrations: Migrations) -> None:
    assert await database.inspect(migrations.state) is SchemaState.BEHIND
    migrations.upgrade("0001")
    assert await database.inspect(migrations.state) is SchemaState.BEHIND
    migrations.upgrade()
    assert await database.inspect(migrations.state) is SchemaState.USABLE
    migrations.downgrade("base")
    assert await database.inspect(migrations.state) is SchemaState.BEHIND


async def test_reads_work_during_a_migration(database: Library, migrations: Migrations) -> None:
    migrations.upgrade()
    await database.ping()  # the service has run before: on SQLite its first connection makes the write-ahead log
    with migrations.locked():
        assert await asyncio.wait_for(database.inspect(migrations.state), 5) is SchemaState.USABLE


class Later(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = COLUMN_TYPES


class Loan(Numbered, Later):
    __tablename__ = "loans"
    __table_args__ = (NEVER_REUSE_IDS,)

    reader: Mapped[str] = mapped_column(String(50), unique=True)
    until: Mapped[datetime]


def test_a_written_revision_has_plain_types_and_the_next_number(tmp_path: Path, empty_url: str) -> None:
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
    check_every_migration(again)
    again.upgrade()
    assert again.differences() == []
    second = again.write_revision("Nothing")
    assert second.name == "library_0002_nothing.py"
    assert 'down_revision = "library_0001"' in second.read_text(encoding="utf-8")


def test_differences_between_models_and_migrations_are_found(tmp_path: Path, empty_url: str) -> None:
    migrations = Migrations(write_migrations(tmp_path, FIRST), Later.metadata, empty_url)
    migrations.upgrade()
    assert {difference[0] for difference in migrations.differences()} >= {"add_table", "remove_table"}


def test_names_made_by_migrations_are_not_differences(tmp_path: Path, empty_url: str) -> None:
    folder = write_migrations(tmp_path, FIRST)
    Migrations(folder, MetaData(), empty_url).upgrade()
    names = {"shelves", "books"}
    assert {each[1].name for each in Migrations(folder, MetaData(), empty_url).differences()} >= names
    assert Migrations(folder, MetaData(), empty_url, names).differences() == []


@pytest.mark.postgresql
class TestOnPostgreSQL:
    def test_a_type_left_by_a_downgrade_is_found(self, tmp_path: Path, empty_url: str) -> None:
        careless = make_migrations(tmp_path, empty_url, [FIRST.replace("    KIND.drop(op.get_bind())\n", "")])
        careless.upgrade()
        careless.downgrade("base")
        assert all_names_in(empty_url) - LEFT_AT_BASE == {"shelf_kind"}

    def test_waiting_for_another_migration_times_out(
        self, tmp_path: Path, empty_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chassis.database.migrations._LOCK_TIMEOUT", 0.2)
        with make_migrations(tmp_path / "one", empty_url).locked():
            other = make_migrations(tmp_path / "other", empty_url)
            with pytest.raises(MigrationRefused, match=r"^[^\n]*lock timeout$"):
                other.upgrade()

    def test_a_missing_server_or_database_is_refused(self, tmp_path: Path, empty_url: str) -> None:
        url = make_url(empty_url)
        for unavailable in (url.set(database="twinlatch_test_missing"), url.set(port=1)):
            migrations = make_migrations(tmp_path, unavailable.render_as_string(hide_password=False))
            with pytest.raises(MigrationRefused, match=r"^the database is unavailable or locked: [^\n]+$") as raised:
                migrations.upgrade()
            assert str(url.password) not in str(raised.value)

    def test_a_user_without_permissions_is_refused(self, tmp_path: Path, empty_url: str) -> None:
        with connection_to(empty_url) as connection:
            connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        with role_without_permissions(empty_url) as theirs:
            migrations = make_migrations(tmp_path, theirs)
            with pytest.raises(
                MigrationRefused, match=r"^the database user lacks a permission: permission denied[^\n]+$"
            ):
                migrations.upgrade()
