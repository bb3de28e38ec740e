"""`chassis.database.transactions` on SQLite: statements, locks and damaged files."""

import asyncio
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.errors import DatabaseBusy, DatabaseUnavailable
from testkit import preloaded
from testkit.library import (
    THREAD_TIMEOUT,
    Library,
    Shelf,
    add_shelf,
    eventually,
    logged,
    names,
    open_library,
    opened,
    path_of,
    sqlite_connection,
    trace_statements,
)

pytestmark = pytest.mark.sqlite


async def test_a_read_is_exactly_one_statement(library: Library) -> None:
    await library.write(add_shelf("poems"))
    statements = trace_statements(library, "read")
    await library.read(names)  # the first on its connection, which is prepared
    statements.clear()
    for _ in range(3):
        assert await library.read(names) == ["poems"]
    assert statements == ["SELECT shelves.name \nFROM shelves ORDER BY shelves.id"] * 3


def _driver(session: Session) -> sqlite3.Connection:
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    return connection


async def test_a_write_is_one_immediate_transaction(library: Library) -> None:
    statements = trace_statements(library, "write")
    library._write_engine.dispose()  # the one connection was opened before the trace
    await library.write(add_shelf("poems"))
    statements.clear()
    await library.write(add_shelf("plays"))
    assert [statement.partition(" (")[0] for statement in statements] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO shelves",
        "COMMIT",
    ]


async def test_a_write_takes_the_lock_before_its_first_read(library: Library) -> None:
    statements = trace_statements(library, "write")
    library._write_engine.dispose()
    await library.write(names)
    statements.clear()
    await library.write(names)
    assert [statement.split()[0] for statement in statements] == ["BEGIN", "SELECT", "COMMIT"]


async def test_a_failed_write_is_rolled_back(library: Library) -> None:
    statements = trace_statements(library, "write")
    library._write_engine.dispose()

    def fail(session: Session) -> None:
        add_shelf("poems")(session)
        raise LookupError

    with pytest.raises(LookupError):
        await library.write(fail)
    assert statements[-1] == "ROLLBACK"


async def test_errors_do_not_contain_statement_parameters(library: Library) -> None:
    await library.write(add_shelf("poems"))
    with pytest.raises(IntegrityError) as raised:
        await library.write(add_shelf("poems"))
    # They may include a password hash, which must not be logged. (PostgreSQL itself puts values into error details.)
    assert "'poems'" not in str(raised.value)


@pytest.mark.parametrize("access", ["read", "write"])
async def test_connections_have_safe_pragmas(library: Library, access: str) -> None:
    def pragmas(session: Session) -> dict[str, Any]:
        wanted = ("foreign_keys", "journal_mode", "synchronous", "busy_timeout", "query_only")
        return {name: _driver(session).execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}

    run = library.read if access == "read" else library.write
    assert await run(pragmas) == {
        "foreign_keys": 1,
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "busy_timeout": 5000,
        "query_only": int(access == "read"),
    }


COUNT = text("SELECT count(*) FROM shelves")


async def test_concurrent_writers_wait_for_each_other(library_url: str) -> None:
    def add_the_next(session: Session) -> None:
        # Two writers that read the same count would violate the unique constraint on the name.
        session.add(Shelf(name=f"shelf {session.scalar(COUNT)}"))

    with opened(library_url) as one, opened(library_url) as other:
        await asyncio.gather(*(database.write(add_the_next) for database in (one, other) * 15))
        assert await one.read(lambda session: session.scalar(COUNT)) == 30


WRITER = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from chassis.database.transactions import Database

def add_the_next(session):
    count = session.scalar(text("SELECT count(*) FROM shelves"))
    session.execute(text("INSERT INTO shelves (name) VALUES (:name)"), {"name": f"shelf {count}"})

async def main():
    database = Database(sys.argv[1], lambda session: session, pool_size=2, pool_timeout=20)
    print("ready", flush=True)
    while not Path("go").exists():
        await asyncio.sleep(0.001)
    for _ in range(10):
        await database.write(add_the_next)
    database.close()

asyncio.run(main())
"""


async def test_writers_in_several_processes_wait_for_each_other(
    library: Library, library_url: str, tmp_path: Path
) -> None:
    (tmp_path / "writer.py").write_text(WRITER, encoding="utf-8")
    outputs = [tmp_path / f"output-{number}" for number in range(2)]
    processes = [preloaded.start("writer", [library_url], tmp_path, os.environ, output) for output in outputs]
    eventually(lambda: all(output.exists() and output.read_bytes() == b"ready\n" for output in outputs))
    (tmp_path / "go").touch()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(await library.read(names)) == 20


async def test_a_locked_database_is_busy_until_unlocked(library_url: str) -> None:
    with opened(library_url, pool_timeout=0.05) as library, sqlite_connection(path_of(library_url)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy):
            await library.write(add_shelf("poems"))
        assert await library.read(names) == []
        other.execute("ROLLBACK")
        await library.write(add_shelf("poems"))
        assert await library.read(names) == ["poems"]


ENDLESS = text(
    "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT count(*) FROM numbers"
)


@pytest.mark.parametrize("access", ["read", "write"])
async def test_a_statement_timeout_is_database_busy(library_url: str, access: str) -> None:
    with opened(library_url, pool_size=2, timeout=1) as library:
        run = library.read if access == "read" else library.write
        await run(names)

        def work(session: Session) -> None:
            if access == "write":
                add_shelf("poems")(session)
            session.execute(ENDLESS)

        with pytest.raises(DatabaseBusy):
            await run(work)
        # The connection is free again, and nothing was stored.
        assert await run(names) == []


async def test_each_statement_has_the_whole_timeout(library: Library) -> None:
    def work(session: Session) -> Any:
        session.connection().info["deadline"]._end = 0  # as after a statement that took all of it
        return session.scalar(text(str(ENDLESS).replace("FROM numbers)", "FROM numbers WHERE n < 500000)")))

    assert await library.read(work) == 500_000


async def test_a_writer_waits_for_another_process(library: Library, library_url: str) -> None:
    with sqlite_connection(path_of(library_url)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO shelves (name) VALUES ('theirs')")
        asked = threading.Event()
        event.listen(library._write_engine, "checkout", lambda *_: asked.set())
        write = asyncio.create_task(library.write(add_shelf("ours")))
        assert await asyncio.to_thread(asked.wait, THREAD_TIMEOUT)
        assert not write.done()
        other.execute("COMMIT")
        await write
    assert await library.read(names) == ["theirs", "ours"]


GARBAGE = b"This is no database, but it is as long as the header of one would be. " * 100


async def test_a_file_that_is_not_a_database_is_unavailable(tmp_path: Path) -> None:
    file = tmp_path / "garbage.db"
    file.write_bytes(GARBAGE)
    library = open_library(f"sqlite:///{file}", pool_size=2, pool_timeout=1)
    for use in (library.read(names), library.write(add_shelf("poems")), library.ping()):
        with pytest.raises(DatabaseUnavailable):
            await use
    library.close()
    assert file.read_bytes() == GARBAGE


async def test_a_file_damaged_in_use_is_unavailable(library: Library, library_url: str) -> None:
    await library.write(add_shelf("poems"))
    await library.read(names)
    with sqlite_connection(path_of(library_url)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await asyncio.to_thread(path_of(library_url).write_bytes, GARBAGE)
    for use in (library.read(names), library.ping()):
        with pytest.raises(DatabaseUnavailable):
            await use


async def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    library = open_library(f"sqlite:///{folder / 'library.db'}", pool_size=2, pool_timeout=1)
    folder.rmdir()
    for use in (library.read(names), library.write(names), library.ping()):
        with pytest.raises(DatabaseUnavailable):
            await use
    folder.mkdir()
    await library.ping()
    library.close()


async def test_the_reason_for_unavailability_is_logged_but_not_sent(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    library = open_library(f"sqlite:///{folder / 'library.db'}", pool_size=2, pool_timeout=1)
    folder.rmdir()
    with logged() as log, pytest.raises(DatabaseUnavailable) as raised:
        await library.ping()
    library.close()
    assert [(line["level"], line["reason"]) for line in log.lines] == [("warning", "unable to open database file")]
    assert "unable to open" not in raised.value.detail


def test_creating_a_database_object_opens_no_connection(tmp_path: Path) -> None:
    library = open_library(f"sqlite:///{tmp_path / 'new' / 'library.db'}", pool_size=3, pool_timeout=5)
    assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new" / "library.db").exists()
    library.close()


async def test_deleted_content_is_overwritten(library: Library, library_url: str) -> None:
    for name in ("poems", "a shelf to be deleted"):
        await library.write(add_shelf(name))
    await library.write(lambda session: session.execute(text("DELETE FROM shelves WHERE name <> 'poems'")))
    with sqlite_connection(path_of(library_url)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    content = path_of(library_url).read_bytes()
    assert b"poems" in content
    assert b"to be deleted" not in content
