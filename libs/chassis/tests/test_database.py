"""`chassis.database.transactions` on both databases: commits, rollbacks, cancellation and errors."""

import asyncio
import contextvars
import os
import re
import sqlite3
import threading
from typing import Any

import pytest
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.errors import DatabaseUnavailable
from testkit.library import (
    BlockedWork,
    Book,
    Library,
    Shelf,
    add_shelf,
    connection_to,
    connections_to,
    eventually,
    names,
    open_library,
    opened,
    path_of,
    rows,
)


async def test_a_failed_read_leaves_no_open_transaction(narrow_library: Library) -> None:
    def fail(session: Session) -> None:
        names(session)
        raise LookupError

    def in_transaction(session: Session) -> bool:
        driver: Any = session.connection().connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            return driver.in_transaction
        return bool(driver.info.transaction_status != TRANSACTION_STATUS_IDLE)

    with pytest.raises(LookupError):
        await narrow_library.read(fail)
    assert not await narrow_library.read(in_transaction)
    assert await narrow_library.write(lambda session: (names(session), in_transaction(session))) == ([], True)


async def test_an_exception_rolls_back(library: Library, library_url: str) -> None:
    def fail(session: Session) -> None:
        add_shelf("poems")(session)
        add_shelf("plays")(session)
        raise LookupError("half way")

    with pytest.raises(LookupError, match="half way"):
        await library.write(fail)
    assert rows(library_url, "SELECT * FROM shelves") == []
    await library.write(add_shelf("poems"))
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_the_result_of_a_write_is_stored_and_usable(library: Library, library_url: str) -> None:
    def work(session: Session) -> Shelf:
        shelf = Shelf(name="poems")
        session.add(shelf)
        return shelf

    shelf = await library.write(work)
    assert rows(library_url, "SELECT id, name FROM shelves") == [(shelf.id, shelf.name)]


async def test_the_result_of_a_read_is_usable(library: Library) -> None:
    shelf_id = await library.write(add_shelf("poems"))
    shelf = await library.read(lambda session: session.scalars(select(Shelf)).one())
    assert (shelf.id, shelf.name) == (shelf_id, "poems")


async def test_a_failed_commit_raises_and_stores_nothing(library: Library, library_url: str) -> None:
    def refer_to_nothing(session: Session) -> str:
        session.add(Book(title="Faust", shelf_id=4711))
        session.flush()
        return "the use case itself went well"

    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        await library.write(refer_to_nothing)
    assert rows(library_url, "SELECT * FROM books") == []
    # The next write can use the connection.
    await library.write(add_shelf("poems"))
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_deletes_cascade(library: Library, library_url: str) -> None:
    shelf_id = await library.write(add_shelf("poems"))
    await library.write(lambda session: session.add(Book(title="Faust", shelf_id=shelf_id)))
    await library.write(lambda session: session.delete(session.get_one(Shelf, shelf_id)))
    assert rows(library_url, "SELECT * FROM books") == []


async def test_the_id_of_a_deleted_row_is_not_reused(library: Library) -> None:
    await library.write(add_shelf("first"))
    newest = await library.write(add_shelf("second"))
    await library.write(lambda session: session.delete(session.get_one(Shelf, newest)))
    assert await library.write(add_shelf("third")) == newest + 1


async def test_ids_are_not_reused_after_emptying_and_reopening(library_url: str) -> None:
    with opened(library_url) as library:
        last = await library.write(add_shelf("poems"))
        await library.write(lambda session: session.execute(text("DELETE FROM shelves")))
    with opened(library_url) as library:
        assert await library.write(add_shelf("poems")) == last + 1


@pytest.mark.parametrize("mistake", ["add", "change", "delete"])
async def test_a_change_in_a_read_raises(library: Library, library_url: str, mistake: str) -> None:
    await library.write(add_shelf("poems"))

    def change(session: Session) -> None:
        if mistake == "add":
            session.add(Shelf(name="plays"))
        elif mistake == "change":
            session.scalars(select(Shelf)).one().name = "prose"
        else:
            session.delete(session.scalars(select(Shelf)).one())

    with pytest.raises(AttributeError, match=r"use Database\.write|can't set"):
        await library.read(change)
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_the_database_rejects_write_statements_in_a_read(library: Library, library_url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        await library.read(lambda session: session.execute(text("INSERT INTO shelves (name) VALUES ('plays')")))
    assert re.search("readonly database|read-only transaction", str(raised.value.__cause__))
    assert rows(library_url, "SELECT * FROM shelves") == []


async def test_missing_tables_make_the_database_unavailable(empty_url: str) -> None:
    with opened(empty_url) as library:
        for use in (library.read(names), library.write(add_shelf("poems"))):
            with pytest.raises(DatabaseUnavailable):
                await use
        await library.ping()


async def test_a_missing_column_makes_the_database_unavailable(library: Library, library_url: str) -> None:
    with connection_to(library_url) as connection:
        connection.exec_driver_sql("ALTER TABLE shelves RENAME COLUMN name TO label")
    for use in (library.read(names), library.write(add_shelf("poems"))):
        with pytest.raises(DatabaseUnavailable):
            await use


async def test_a_violated_constraint_is_not_an_unavailable_database(library: Library) -> None:
    await library.write(add_shelf("poems"))
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        await library.write(add_shelf("poems"))


async def test_a_constraint_violated_on_commit_rolls_back(library: Library, library_url: str) -> None:
    await library.write(add_shelf("poems"))
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        await library.write(lambda session: session.add_all([Shelf(name="plays"), Shelf(name="poems")]))
    await library.write(add_shelf("prose"))
    assert rows(library_url, "SELECT name FROM shelves ORDER BY id") == [("poems",), ("prose",)]


async def test_a_cancelled_write_completes_and_releases_its_slot(narrow_library: Library, library_url: str) -> None:
    library = narrow_library
    blocked = BlockedWork(add_shelf("poems"))
    request = asyncio.create_task(library.write(blocked))
    await blocked.entered()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    # The thread is still working: the next call must wait in the queue, where it has a timeout.
    assert library._writes._free_threads.locked()
    next_one = asyncio.create_task(library.write(add_shelf("plays")))
    blocked.release()
    await next_one
    assert blocked.finished.is_set()
    # The cancelled write was completed.
    assert rows(library_url, "SELECT name FROM shelves ORDER BY id") == [("poems",), ("plays",)]


async def test_a_call_cancelled_in_the_queue_takes_no_slot(narrow_library: Library) -> None:
    library = narrow_library
    blocked = BlockedWork()
    first = asyncio.create_task(library.write(blocked))
    await blocked.entered()
    waiting = [asyncio.create_task(library.write(add_shelf(f"unwanted {number}"))) for number in range(5)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*waiting, return_exceptions=True)
    )
    blocked.release()
    await first
    await library.write(add_shelf("poems"))
    assert await library.read(names) == ["poems"]


async def test_a_cancelled_write_that_fails_rolls_back(narrow_library: Library, library_url: str) -> None:
    library = narrow_library
    blocked = BlockedWork(add_shelf("poems"))

    def fail(session: Session) -> None:
        blocked(session)
        raise LookupError

    request = asyncio.create_task(library.write(fail))
    await blocked.entered()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    blocked.release()
    await library.write(add_shelf("plays"))
    assert rows(library_url, "SELECT name FROM shelves") == [("plays",)]


colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_context_variables_reach_the_thread_but_not_other_requests(
    library: Library,
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


async def test_reads_and_writes_run_in_their_own_threads(library: Library) -> None:
    def where(_: Session) -> str:
        return threading.current_thread().name

    assert (await library.read(where)).startswith("database-read")
    assert (await library.write(where)).startswith("database-write")


async def test_close_waits_for_running_work_and_closes_all_connections(library_url: str) -> None:
    library = open_library(library_url, pool_size=3)
    await library.read(names)
    blocked = BlockedWork(add_shelf("poems"))
    write = asyncio.create_task(library.write(blocked))
    await blocked.entered()
    closing = asyncio.create_task(asyncio.to_thread(library.close))
    blocked.release()
    await closing
    assert blocked.finished.is_set()
    assert await write == "done"
    if make_url(library_url).get_backend_name() == "sqlite":
        # Closing the last connection deletes the write-ahead log.
        assert not os.path.exists(f"{path_of(library_url)}-wal")  # noqa: ASYNC240, PTH110 - it blocks for no time
    else:
        # The server notices the closed connections a moment later.
        eventually(lambda: connections_to(library_url) == 0)
