"""`chassis.database` on real SQLite files: what is sent, who waits for whom, and what a client is told."""

import asyncio
import contextvars
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from chassis_support import Base, Book, Shelf, beside, logged, new_library, rows, traced
from sqlalchemy import DateTime, MetaData, event, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from chassis.database import Database, UnitOf
from chassis.errors import DatabaseBusy, DatabaseUnavailable
from chassis.models import COLUMN_TYPES, NEVER_REUSE_IDS, Numbered, UtcDateTime

OTHERS = 10  # seconds that a test waits for another thread before it fails


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Database]:
    with new_library(tmp_path) as database:
        yield database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "library.db"


def add_shelf(name: str) -> Callable[[Session], int]:
    def work(session: Session) -> int:
        shelf = Shelf(name=name)
        session.add(shelf)
        session.flush()
        return shelf.id

    return work


def names(session: Session) -> list[str]:
    return list(session.scalars(select(Shelf.name).order_by(Shelf.id)))


class Holding:
    """Work that stays in its thread until it is told to go on."""

    def __init__(self, before: Callable[[Session], object] = lambda _: None) -> None:
        self._before = before
        self._entered = threading.Event()
        self._go_on = threading.Event()
        self.finished = threading.Event()

    def __call__(self, session: Session) -> str:
        self._before(session)
        self._entered.set()
        assert self._go_on.wait(OTHERS), "nobody let the work go on"
        self.finished.set()
        return "done"

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, OTHERS)

    def go_on(self) -> None:
        self._go_on.set()


async def test_a_read_is_exactly_one_statement(library: Database) -> None:
    await library.write(add_shelf("poems"))
    statements = traced(library, "reads")
    await library.read(names)  # the first on its connection, which is prepared
    statements.clear()
    for _ in range(3):
        assert await library.read(names) == ["poems"]
    assert statements == ["SELECT shelves.name \nFROM shelves ORDER BY shelves.id"] * 3


async def test_a_read_that_fails_leaves_nothing_behind_on_its_connection(tmp_path: Path) -> None:
    with new_library(tmp_path, pool_size=2) as library:
        await library.read(names)

        def fail(session: Session) -> None:
            names(session)
            raise LookupError

        with pytest.raises(LookupError):
            await library.read(fail)
        assert await library.read(lambda session: _driver(session).in_transaction) is False


def _driver(session: Session) -> sqlite3.Connection:
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    return connection


async def test_a_write_is_one_immediate_transaction(library: Database) -> None:
    statements = traced(library, "writes")
    library._writes.engine.dispose()  # the one connection was opened before the trace
    await library.write(add_shelf("poems"))
    statements.clear()
    await library.write(add_shelf("plays"))
    assert [statement.partition(" (")[0] for statement in statements] == [
        "BEGIN IMMEDIATE",
        "INSERT INTO shelves",
        "COMMIT",
    ]


async def test_a_write_that_reads_first_takes_the_lock_before_it_reads(library: Database) -> None:
    statements = traced(library, "writes")
    library._writes.engine.dispose()
    await library.write(names)
    statements.clear()
    await library.write(names)
    assert [statement.split()[0] for statement in statements] == ["BEGIN", "SELECT", "COMMIT"]


async def test_an_exception_rolls_everything_back(library: Database, file: Path) -> None:
    statements = traced(library, "writes")
    library._writes.engine.dispose()

    def fail(session: Session) -> None:
        add_shelf("poems")(session)
        add_shelf("plays")(session)
        raise LookupError("half way")

    with pytest.raises(LookupError, match="half way"):
        await library.write(fail)
    assert statements[-1] == "ROLLBACK"
    assert rows(file, "SELECT * FROM shelves") == []
    await library.write(add_shelf("poems"))
    assert rows(file, "SELECT name FROM shelves") == [("poems",)]


async def test_what_a_write_returns_is_stored_already_and_can_be_used(library: Database, file: Path) -> None:
    def work(session: Session) -> Shelf:
        shelf = Shelf(name="poems")
        session.add(shelf)
        return shelf

    shelf = await library.write(work)
    assert rows(file, "SELECT id, name FROM shelves") == [(shelf.id, shelf.name)]


async def test_what_a_read_returns_can_be_used_after_it(library: Database) -> None:
    shelf_id = await library.write(add_shelf("poems"))
    shelf = await library.read(lambda session: session.get_one(Shelf, shelf_id))
    assert (shelf.id, shelf.name) == (shelf_id, "poems")


async def test_a_commit_that_fails_is_heard_of_and_nothing_is_stored(library: Database, file: Path) -> None:
    def refer_to_nothing(session: Session) -> str:
        session.add(Book(title="Faust", shelf_id=4711))
        session.flush()
        return "the use case itself went well"

    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        await library.write(refer_to_nothing)
    assert rows(file, "SELECT * FROM books") == []
    # The connection is good for the next one.
    await library.write(add_shelf("poems"))
    assert rows(file, "SELECT name FROM shelves") == [("poems",)]


@pytest.mark.parametrize("lane", ["read", "write"])
async def test_connections_are_safe_in_foreign_keys_journal_and_power_cuts(library: Database, lane: str) -> None:
    def pragmas(session: Session) -> dict[str, Any]:
        wanted = ("foreign_keys", "journal_mode", "synchronous", "busy_timeout", "query_only")
        return {name: _driver(session).execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}

    run = library.read if lane == "read" else library.write
    assert await run(pragmas) == {
        "foreign_keys": 1,
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "busy_timeout": 5000,
        "query_only": int(lane == "read"),
    }


async def test_deleting_a_row_deletes_what_belongs_to_it(library: Database, file: Path) -> None:
    shelf_id = await library.write(add_shelf("poems"))
    await library.write(lambda session: session.add(Book(title="Faust", shelf_id=shelf_id)))
    await library.write(lambda session: session.delete(session.get_one(Shelf, shelf_id)))
    assert rows(file, "SELECT * FROM books") == []


async def test_an_id_is_not_used_again_after_the_newest_row_was_deleted(library: Database) -> None:
    await library.write(add_shelf("first"))
    newest = await library.write(add_shelf("second"))
    await library.write(lambda session: session.delete(session.get_one(Shelf, newest)))
    assert await library.write(add_shelf("third")) == newest + 1


async def test_ids_go_on_after_the_table_was_emptied_and_the_database_opened_anew(tmp_path: Path) -> None:
    with new_library(tmp_path) as library:
        last = await library.write(add_shelf("poems"))
        await library.write(lambda session: session.execute(text("DELETE FROM shelves")))
    with new_library(tmp_path) as library:
        assert await library.write(add_shelf("poems")) == last + 1


@pytest.mark.parametrize("mistake", ["add", "change", "delete"])
@pytest.mark.parametrize("flushes", [True, False])
async def test_a_read_that_changes_something_is_refused_and_not_lost_silently(
    library: Database, file: Path, mistake: str, *, flushes: bool
) -> None:
    shelf_id = await library.write(add_shelf("poems"))

    def change(session: Session) -> None:
        if mistake == "add":
            session.add(Shelf(name="plays"))
        elif mistake == "change":
            session.get_one(Shelf, shelf_id).name = "prose"
        else:
            session.delete(session.get_one(Shelf, shelf_id))
        if flushes:
            session.flush()

    with pytest.raises(RuntimeError, match=r"run it with Database\.write"):
        await library.read(change)
    assert rows(file, "SELECT name FROM shelves") == [("poems",)]


async def test_a_value_set_to_what_it_was_is_no_change_and_a_read_may_do_it(library: Database) -> None:
    shelf_id = await library.write(add_shelf("poems"))

    def touch(session: Session) -> None:
        session.get_one(Shelf, shelf_id).name = "poems"
        session.flush()

    await library.read(touch)


async def test_the_database_itself_refuses_a_statement_that_writes_in_a_read(library: Database, file: Path) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        await library.read(lambda session: session.execute(text("INSERT INTO shelves (name) VALUES ('plays')")))
    assert "readonly database" in str(refusal.value.__cause__)
    assert rows(file, "SELECT * FROM shelves") == []


COUNT = text("SELECT count(*) FROM shelves")


async def test_many_writers_at_once_wait_for_each_other_and_none_is_lost(tmp_path: Path) -> None:
    def add_the_next(session: Session) -> None:
        # Two of them that read the same count would give the same name, which is unique.
        session.add(Shelf(name=f"shelf {session.scalar(COUNT)}"))

    with new_library(tmp_path) as one, new_library(tmp_path) as other:
        await asyncio.gather(*(database.write(add_the_next) for database in (one, other) * 15))
        assert await one.read(lambda session: session.scalar(COUNT)) == 30


WRITER = """
import asyncio, sys
from sqlalchemy import text
from chassis.database import Database

def add_the_next(session):
    count = session.scalar(text("SELECT count(*) FROM shelves"))
    session.execute(text("INSERT INTO shelves (name) VALUES (:name)"), {"name": f"shelf {count}"})

async def main():
    database = Database(sys.argv[1], 2, 20)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(10):
        await database.write(add_the_next)
    database.close()

asyncio.run(main())
"""


async def test_writers_in_several_processes_wait_for_each_other(library: Database, file: Path) -> None:
    processes = [
        subprocess.Popen(  # noqa: ASYNC220 - it has nothing to wait for
            [sys.executable, "-c", WRITER, f"sqlite:///{file}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
    for process in processes:
        process.communicate(b"go\n", timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    assert len(await library.read(names)) == 20


async def test_readers_go_on_while_a_writer_holds_the_lock_and_see_nothing_of_it(library: Database) -> None:
    await library.write(add_shelf("poems"))
    writer = Holding(add_shelf("plays"))
    write = asyncio.create_task(library.write(writer))
    await writer.entered()
    assert await asyncio.gather(*(library.read(names) for _ in range(10))) == [["poems"]] * 10
    writer.go_on()
    assert await write == "done"
    assert await library.read(names) == ["poems", "plays"]


async def test_blocked_writers_do_not_take_the_threads_of_readers(library: Database) -> None:
    writer = Holding()
    writes: list[asyncio.Task[Any]] = [asyncio.create_task(library.write(writer))]
    await writer.entered()
    writes += [asyncio.create_task(library.write(add_shelf(f"shelf {number}"))) for number in range(20)]
    assert await library.read(names) == []
    writer.go_on()
    await asyncio.gather(*writes)
    assert len(await library.read(names)) == 20


@pytest.mark.parametrize("lane", ["read", "write"])
async def test_who_waits_for_a_connection_too_long_hears_that_the_database_is_busy(tmp_path: Path, lane: str) -> None:
    with new_library(tmp_path, pool_size=2, timeout=0.05) as library:
        run = library.read if lane == "read" else library.write
        holding = Holding()
        first = asyncio.create_task(run(holding))
        await holding.entered()
        with pytest.raises(DatabaseBusy):
            await run(names)
        holding.go_on()
        assert await first == "done"
        assert await run(names) == []


async def test_a_database_that_another_process_has_locked_is_busy_and_then_free_again(tmp_path: Path) -> None:
    with new_library(tmp_path, timeout=0.05) as library, beside(tmp_path / "library.db") as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy):
            await library.write(add_shelf("poems"))
        assert await library.read(names) == []
        other.execute("ROLLBACK")
        await library.write(add_shelf("poems"))
        assert await library.read(names) == ["poems"]


async def test_a_writer_waits_for_another_process_to_finish(library: Database, file: Path) -> None:
    with beside(file) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO shelves (name) VALUES ('theirs')")
        asked = threading.Event()
        event.listen(library._writes.engine, "checkout", lambda *_: asked.set())
        write = asyncio.create_task(library.write(add_shelf("ours")))
        assert await asyncio.to_thread(asked.wait, OTHERS)
        assert not write.done()
        other.execute("COMMIT")
        await write
    assert await library.read(names) == ["theirs", "ours"]


GARBAGE = b"This is no database, but it is as long as the header of one would be. " * 100


async def test_a_file_that_is_no_database_is_an_unavailable_database(tmp_path: Path) -> None:
    file = tmp_path / "garbage.db"
    file.write_bytes(GARBAGE)
    library = Database(f"sqlite:///{file}", 2, 1)
    for use in (library.read(names), library.write(add_shelf("poems")), library.ping()):
        with pytest.raises(DatabaseUnavailable):
            await use
    library.close()
    assert file.read_bytes() == GARBAGE


async def test_a_file_that_is_damaged_while_it_is_in_use_makes_the_database_unavailable(
    library: Database, file: Path
) -> None:
    await library.write(add_shelf("poems"))
    await library.read(names)
    with beside(file) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await asyncio.to_thread(file.write_bytes, GARBAGE)
    for use in (library.read(names), library.ping()):
        with pytest.raises(DatabaseUnavailable):
            await use


async def test_a_database_without_its_tables_is_unavailable(tmp_path: Path) -> None:
    library = Database(f"sqlite:///{tmp_path / 'empty.db'}", 2, 1)
    with pytest.raises(DatabaseUnavailable):
        await library.read(names)
    await library.ping()
    library.close()


async def test_a_folder_that_is_gone_makes_the_database_unavailable(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    library = Database(f"sqlite:///{folder / 'library.db'}", 2, 1)
    folder.rmdir()
    for use in (library.read(names), library.write(names), library.ping()):
        with pytest.raises(DatabaseUnavailable):
            await use
    folder.mkdir()
    await library.ping()
    library.close()


async def test_why_the_database_is_unavailable_is_logged_and_not_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    library = Database(f"sqlite:///{folder / 'library.db'}", 2, 1)
    folder.rmdir()
    with logged() as log, pytest.raises(DatabaseUnavailable) as refusal:
        await library.ping()
    library.close()
    assert [(line["level"], line["reason"]) for line in log.lines] == [("warning", "unable to open database file")]
    assert "unable to open" not in refusal.value.detail


async def test_a_violated_constraint_is_not_taken_for_an_unavailable_database(library: Database) -> None:
    await library.write(add_shelf("poems"))
    with pytest.raises(IntegrityError, match="UNIQUE") as refusal:
        await library.write(add_shelf("poems"))
    # A statement's parameters may be a password's hash; they are for no log.
    assert "'poems'" not in str(refusal.value)


async def test_a_constraint_that_only_the_commit_finds_violated_rolls_back_too(library: Database, file: Path) -> None:
    await library.write(add_shelf("poems"))
    with pytest.raises(IntegrityError, match="UNIQUE"):
        await library.write(lambda session: session.add_all([Shelf(name="plays"), Shelf(name="poems")]))
    await library.write(add_shelf("prose"))
    assert rows(file, "SELECT name FROM shelves ORDER BY id") == [("poems",), ("prose",)]


async def test_a_request_that_is_cancelled_in_its_work_ends_its_transaction_and_gives_its_turn_back(
    library: Database, file: Path
) -> None:
    holding = Holding(add_shelf("poems"))
    request = asyncio.create_task(library.write(holding))
    await holding.entered()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    # The thread is at work still, and who comes next would wait in it without a deadline.
    assert library._writes._turns.locked()
    next_one = asyncio.create_task(library.write(add_shelf("plays")))
    holding.go_on()
    await next_one
    assert holding.finished.is_set()
    # What was begun was finished whole, although nobody waits for it.
    assert rows(file, "SELECT name FROM shelves ORDER BY id") == [("poems",), ("plays",)]


async def test_a_request_that_is_cancelled_while_it_waits_takes_no_turn(library: Database) -> None:
    holding = Holding()
    first = asyncio.create_task(library.write(holding))
    await holding.entered()
    waiting = [asyncio.create_task(library.write(add_shelf(f"never {number}"))) for number in range(5)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*waiting, return_exceptions=True)
    )
    holding.go_on()
    await first
    await library.write(add_shelf("poems"))
    assert await library.read(names) == ["poems"]


async def test_a_cancelled_request_whose_work_then_fails_rolls_back(library: Database, file: Path) -> None:
    holding = Holding(add_shelf("poems"))

    def fail(session: Session) -> None:
        holding(session)
        raise LookupError

    request = asyncio.create_task(library.write(fail))
    await holding.entered()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    holding.go_on()
    await library.write(add_shelf("plays"))
    assert rows(file, "SELECT name FROM shelves") == [("plays",)]


colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_what_a_request_has_in_its_context_reaches_the_thread_and_stays_in_the_request(
    library: Database,
) -> None:
    def look(_: Session) -> str:
        seen = colour.get()
        colour.set("changed in the thread")
        return seen

    async def ask(name: str) -> tuple[str, str]:
        colour.set(name)
        return await library.read(look), colour.get()

    asked = [f"colour {number}" for number in range(20)]
    assert await asyncio.gather(*(ask(name) for name in asked)) == [(name, name) for name in asked]


async def test_work_runs_in_threads_of_its_lane_and_never_on_the_event_loop(library: Database) -> None:
    def where(_: Session) -> str:
        return threading.current_thread().name

    assert (await library.read(where)).startswith("database-read")
    assert (await library.write(where)).startswith("database-write")


async def test_close_waits_for_what_is_running_and_closes_every_connection(tmp_path: Path) -> None:
    library = Database(f"sqlite:///{tmp_path / 'library.db'}", 3, 5)
    Base.metadata.create_all(library._writes.engine)
    holding = Holding(add_shelf("poems"))
    write = asyncio.create_task(library.write(holding))
    await holding.entered()
    closing = asyncio.create_task(asyncio.to_thread(library.close))
    holding.go_on()
    await closing
    assert holding.finished.is_set()
    assert await write == "done"
    # The last connection that is closed takes the write-ahead log away.
    assert not (tmp_path / "library.db-wal").exists()
    with beside(tmp_path / "library.db") as other:
        other.execute("BEGIN EXCLUSIVE")


def test_to_make_a_database_opens_nothing(tmp_path: Path) -> None:
    library = Database(f"sqlite:///{tmp_path / 'new' / 'library.db'}", 3, 5)
    assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new" / "library.db").exists()
    library.close()


async def test_a_unit_runs_its_work_with_what_was_built_on_the_session(library: Database) -> None:
    class Shelves:
        def __init__(self, session: Session) -> None:
            self._session = session

        def add(self, name: str) -> int:
            return add_shelf(name)(self._session)

        def names(self) -> list[str]:
            return names(self._session)

    write, read = UnitOf(library.write, Shelves), UnitOf(library.read, Shelves)
    assert await write(lambda shelves: shelves.add("poems")) == 1
    assert await read(lambda shelves: shelves.names()) == ["poems"]


class Diary(DeclarativeBase):
    metadata = MetaData()
    type_annotation_map = COLUMN_TYPES


class Entry(Numbered, Diary):
    __tablename__ = "entries"
    __table_args__ = (NEVER_REUSE_IDS,)

    at: Mapped[datetime]
    ended: Mapped[datetime | None] = mapped_column(default=None)


@pytest.fixture
def diary(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'diary.db'}", 2, 5)
    Diary.metadata.create_all(database._writes.engine)
    yield database
    database.close()


async def test_a_moment_of_any_zone_is_stored_and_returned_in_utc(diary: Database, tmp_path: Path) -> None:
    tokyo = datetime(2024, 3, 1, 6, 30, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    await diary.write(lambda session: session.add(Entry(at=tokyo)))
    assert rows(tmp_path / "diary.db", "SELECT at, ended FROM entries") == [("2024-02-29 21:30:00.123456", None)]
    entry = await diary.read(lambda session: session.scalars(select(Entry)).one())
    assert entry.at == tokyo
    assert entry.at.tzinfo is UTC
    assert entry.ended is None


async def test_moments_compare_by_time_whatever_their_zone(diary: Database) -> None:
    noon = datetime(2024, 3, 1, 12, tzinfo=UTC)
    await diary.write(lambda session: session.add(Entry(at=noon)))
    later_here_sooner_there = datetime(2024, 3, 1, 13, 30, tzinfo=timezone(timedelta(hours=2)))
    statement = select(Entry.id).where(Entry.at > later_here_sooner_there)
    assert await diary.read(lambda session: session.scalar(statement)) == 1


async def test_a_moment_without_a_zone_is_refused(diary: Database, tmp_path: Path) -> None:
    naive = datetime(2024, 3, 1, 12)  # noqa: DTZ001 - it is the one to be refused
    with pytest.raises(StatementError, match="without a time zone"):
        await diary.write(lambda session: session.add(Entry(at=naive)))
    assert rows(tmp_path / "diary.db", "SELECT * FROM entries") == []


def test_a_moment_is_a_timestamp_with_time_zone_where_the_database_has_one() -> None:
    impl = UtcDateTime().impl_instance
    assert isinstance(impl, DateTime)
    assert impl.timezone
