"""`chassis.database.transactions` on both databases: what is stored, what is rolled back, and what a client is told."""

import asyncio
import contextvars
import os
import re
import sqlite3
import threading
from typing import Any

import pytest
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.errors import DatabaseUnavailable
from testkit.library import (
    Book,
    Holding,
    Library,
    Shelf,
    add_shelf,
    connections_to,
    eventually,
    names,
    open_library,
    opened,
    path_of,
    rows,
    told,
)


async def test_a_read_that_fails_leaves_nothing_behind_on_its_connection(narrow_library: Library) -> None:
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


async def test_an_exception_rolls_everything_back(library: Library, library_url: str) -> None:
    def fail(session: Session) -> None:
        add_shelf("poems")(session)
        add_shelf("plays")(session)
        raise LookupError("half way")

    with pytest.raises(LookupError, match="half way"):
        await library.write(fail)
    assert rows(library_url, "SELECT * FROM shelves") == []
    await library.write(add_shelf("poems"))
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_what_a_write_returns_is_stored_already_and_can_be_used(library: Library, library_url: str) -> None:
    def work(session: Session) -> Shelf:
        shelf = Shelf(name="poems")
        session.add(shelf)
        return shelf

    shelf = await library.write(work)
    assert rows(library_url, "SELECT id, name FROM shelves") == [(shelf.id, shelf.name)]


async def test_what_a_read_returns_can_be_used_after_it(library: Library) -> None:
    shelf_id = await library.write(add_shelf("poems"))
    shelf = await library.read(lambda session: session.get_one(Shelf, shelf_id))
    assert (shelf.id, shelf.name) == (shelf_id, "poems")


async def test_a_commit_that_fails_is_heard_of_and_nothing_is_stored(library: Library, library_url: str) -> None:
    def refer_to_nothing(session: Session) -> str:
        session.add(Book(title="Faust", shelf_id=4711))
        session.flush()
        return "the use case itself went well"

    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        await library.write(refer_to_nothing)
    assert rows(library_url, "SELECT * FROM books") == []
    # The connection is good for the next one.
    await library.write(add_shelf("poems"))
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_deleting_a_row_deletes_what_belongs_to_it(library: Library, library_url: str) -> None:
    shelf_id = await library.write(add_shelf("poems"))
    await library.write(lambda session: session.add(Book(title="Faust", shelf_id=shelf_id)))
    await library.write(lambda session: session.delete(session.get_one(Shelf, shelf_id)))
    assert rows(library_url, "SELECT * FROM books") == []


async def test_an_id_is_not_used_again_after_the_newest_row_was_deleted(library: Library) -> None:
    await library.write(add_shelf("first"))
    newest = await library.write(add_shelf("second"))
    await library.write(lambda session: session.delete(session.get_one(Shelf, newest)))
    assert await library.write(add_shelf("third")) == newest + 1


async def test_ids_go_on_after_the_table_was_emptied_and_the_database_opened_anew(library_url: str) -> None:
    with opened(library_url) as library:
        last = await library.write(add_shelf("poems"))
        await library.write(lambda session: session.execute(text("DELETE FROM shelves")))
    with opened(library_url) as library:
        assert await library.write(add_shelf("poems")) == last + 1


@pytest.mark.parametrize("mistake", ["add", "change", "delete"])
@pytest.mark.parametrize("flushes", [True, False])
async def test_a_read_that_changes_something_is_refused_and_not_lost_silently(
    library: Library, library_url: str, mistake: str, *, flushes: bool
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
    assert rows(library_url, "SELECT name FROM shelves") == [("poems",)]


async def test_a_value_set_to_what_it_was_is_no_change_and_a_read_may_do_it(library: Library) -> None:
    shelf_id = await library.write(add_shelf("poems"))

    def touch(session: Session) -> None:
        session.get_one(Shelf, shelf_id).name = "poems"
        session.flush()

    await library.read(touch)


async def test_the_database_itself_refuses_a_statement_that_writes_in_a_read(
    library: Library, library_url: str
) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        await library.read(lambda session: session.execute(text("INSERT INTO shelves (name) VALUES ('plays')")))
    assert re.search("readonly database|read-only transaction", str(refusal.value.__cause__))
    assert rows(library_url, "SELECT * FROM shelves") == []


async def test_a_database_without_its_tables_is_unavailable(empty_url: str) -> None:
    with opened(empty_url) as library:
        for use in (library.read(names), library.write(add_shelf("poems"))):
            with pytest.raises(DatabaseUnavailable):
                await use
        await library.ping()


async def test_a_table_without_a_column_is_unavailable_too(library: Library, library_url: str) -> None:
    with told(library_url) as connection:
        connection.exec_driver_sql("ALTER TABLE shelves RENAME COLUMN name TO label")
    for use in (library.read(names), library.write(add_shelf("poems"))):
        with pytest.raises(DatabaseUnavailable):
            await use


async def test_a_violated_constraint_is_not_taken_for_an_unavailable_database(library: Library) -> None:
    await library.write(add_shelf("poems"))
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        await library.write(add_shelf("poems"))


async def test_a_constraint_that_only_the_commit_finds_violated_rolls_back_too(
    library: Library, library_url: str
) -> None:
    await library.write(add_shelf("poems"))
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        await library.write(lambda session: session.add_all([Shelf(name="plays"), Shelf(name="poems")]))
    await library.write(add_shelf("prose"))
    assert rows(library_url, "SELECT name FROM shelves ORDER BY id") == [("poems",), ("prose",)]


async def test_a_request_that_is_cancelled_in_its_work_ends_its_transaction_and_gives_its_turn_back(
    narrow_library: Library, library_url: str
) -> None:
    library = narrow_library
    holding = Holding(add_shelf("poems"))
    request = asyncio.create_task(library.write(holding))
    await holding.entered()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    # The thread is at work still, and who comes next would wait in it without a deadline.
    assert library._writes._slots.locked()
    next_one = asyncio.create_task(library.write(add_shelf("plays")))
    holding.go_on()
    await next_one
    assert holding.finished.is_set()
    # What was begun was finished whole, although nobody waits for it.
    assert rows(library_url, "SELECT name FROM shelves ORDER BY id") == [("poems",), ("plays",)]


async def test_a_request_that_is_cancelled_while_it_waits_takes_no_turn(narrow_library: Library) -> None:
    library = narrow_library
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


async def test_a_cancelled_request_whose_work_then_fails_rolls_back(narrow_library: Library, library_url: str) -> None:
    library = narrow_library
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
    assert rows(library_url, "SELECT name FROM shelves") == [("plays",)]


colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_what_a_request_has_in_its_context_reaches_the_thread_and_stays_in_the_request(
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


async def test_work_runs_in_threads_of_its_lane_and_never_on_the_event_loop(library: Library) -> None:
    def where(_: Session) -> str:
        return threading.current_thread().name

    assert (await library.read(where)).startswith("database-read")
    assert (await library.write(where)).startswith("database-write")


async def test_close_waits_for_what_is_running_and_closes_every_connection(library_url: str) -> None:
    library = open_library(library_url, pool_size=3)
    await library.read(names)
    holding = Holding(add_shelf("poems"))
    write = asyncio.create_task(library.write(holding))
    await holding.entered()
    closing = asyncio.create_task(asyncio.to_thread(library.close))
    holding.go_on()
    await closing
    assert holding.finished.is_set()
    assert await write == "done"
    if make_url(library_url).get_backend_name() == "sqlite":
        # The last connection that is closed takes the write-ahead log away.
        assert not os.path.exists(f"{path_of(library_url)}-wal")  # noqa: ASYNC240, PTH110 - it blocks for no time
    else:
        # The server notices the end of the connections a moment later.
        eventually(lambda: connections_to(library_url) == 0)
