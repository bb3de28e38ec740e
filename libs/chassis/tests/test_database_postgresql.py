"""`chassis.database.transactions` on PostgreSQL: statements, server-side timeouts and error mapping."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from psycopg2 import errorcodes
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.database.sqlstates import SqlState
from chassis.database.url import normalise
from chassis.errors import DatabaseBusy, DatabaseUnavailable
from testkit.library import THREAD_TIMEOUT, Book, Library, Shelf, add_shelf, connection_to, logged, names, opened, rows
from testkit.postgresql_proxy import Proxy
from testkit.processes import free_port

pytestmark = pytest.mark.postgresql


def method_for(library: Library, access: str) -> Callable[..., Any]:
    return library.read if access == "read" else library.write


async def test_a_read_is_exactly_one_statement(library_url: str) -> None:
    with Proxy(library_url) as proxy, opened(proxy.url, pool_size=2) as library:
        await library.write(add_shelf("poems"))
        await library.read(names)  # the first on its connection, which SQLAlchemy gets to know
        proxy.statements.clear()
        for _ in range(3):
            assert await library.read(names) == ["poems"]
        assert proxy.statements == ["SELECT shelves.name \nFROM shelves ORDER BY shelves.id"] * 3


async def test_a_write_is_one_transaction(library_url: str) -> None:
    with Proxy(library_url) as proxy, opened(proxy.url, pool_size=2) as library:
        await library.write(names)
        proxy.statements.clear()
        await library.write(add_shelf("poems"))
        assert [each.partition(" (")[0] for each in proxy.statements] == ["BEGIN", "INSERT INTO shelves", "COMMIT"]
        proxy.statements.clear()

        def fail(session: Session) -> None:
            add_shelf("plays")(session)
            raise LookupError

        with pytest.raises(LookupError):
            await library.write(fail)
        assert [each.partition(" (")[0] for each in proxy.statements] == ["BEGIN", "INSERT INTO shelves", "ROLLBACK"]


async def test_read_connections_are_read_only(library: Library) -> None:
    show = text("SHOW transaction_read_only")
    assert await library.read(lambda session: session.scalar(show)) == "on"
    assert await library.write(lambda session: session.scalar(show)) == "off"


@pytest.mark.parametrize("access", ["read", "write"])
async def test_the_time_zone_is_utc_despite_the_servers_setting(library_url: str, access: str) -> None:
    with connection_to(library_url) as connection:
        connection.exec_driver_sql(f"ALTER DATABASE \"{make_url(library_url).database}\" SET timezone = 'Asia/Tokyo'")
    assert rows(library_url, "SHOW timezone") == [("Asia/Tokyo",)]
    with opened(library_url) as library:
        shown = await method_for(library, access)(lambda session: session.scalar(text("SHOW timezone")))
    assert shown == "UTC"


@pytest.mark.parametrize("access", ["read", "write"])
async def test_a_statement_timeout_is_database_busy(library_url: str, access: str) -> None:
    with opened(library_url, pool_size=2, timeout=0.3) as library:
        started = time.monotonic()
        with pytest.raises(DatabaseBusy):
            await method_for(library, access)(lambda session: session.execute(text("SELECT pg_sleep(60)")))
        assert time.monotonic() - started < 5  # The default is 10.
        assert await method_for(library, access)(names) == []


async def test_a_lock_timeout_is_database_busy(library_url: str) -> None:
    with opened(library_url, pool_timeout=0.3) as library:
        shelf_id = await library.write(add_shelf("poems"))

        def rename(session: Session) -> None:
            session.get_one(Shelf, shelf_id).name = "plays"

        with connection_to(library_url) as other:
            other.exec_driver_sql("SELECT * FROM shelves FOR UPDATE")
            started = time.monotonic()
            with pytest.raises(DatabaseBusy):
                await library.write(rename)
            assert time.monotonic() - started < 5  # The default is 10.
            assert await library.read(names) == ["poems"]
        await library.write(rename)
        assert await library.read(names) == ["plays"]


async def test_a_deadlock_is_database_busy_for_one_writer(library_url: str) -> None:
    with opened(library_url, pool_size=4) as library:
        for name in ("poems", "plays"):
            await library.write(add_shelf(name))
        meeting = threading.Barrier(2, timeout=THREAD_TIMEOUT)

        def lock(*ids: int) -> Callable[[Session], str]:
            def work(session: Session) -> str:
                for row_id in ids:
                    session.get_one(Shelf, row_id, with_for_update=True)
                    if row_id == ids[0]:
                        meeting.wait()
                return "done"

            return work

        answers = await asyncio.gather(library.write(lock(1, 2)), library.write(lock(2, 1)), return_exceptions=True)
        assert sorted(map(str, answers)) == sorted(["done", DatabaseBusy.detail])


async def test_errors_do_not_contain_row_values(library: Library) -> None:
    await library.write(add_shelf("poems"))
    for work in (add_shelf("poems"), lambda session: (session.add(Book(id=4711)), session.flush())):
        with pytest.raises(IntegrityError, match="violates") as raised:
            await library.write(work)
        # The values may include a password hash, which must not be logged.
        for error in (raised.value, raised.value.orig):
            assert "poems" not in str(error)
            assert "4711" not in str(error)


async def test_a_missing_database_is_unavailable_and_logged(library_url: str) -> None:
    missing = make_url(library_url).set(database="twinlatch_test_missing").render_as_string(hide_password=False)
    with opened(missing) as library, logged() as log:
        for use in (library.read(names), library.write(add_shelf("poems")), library.ping()):
            with pytest.raises(DatabaseUnavailable) as raised:
                await use
            assert "twinlatch_test_missing" not in raised.value.detail
    assert {line["level"] for line in log.lines} == {"warning"}
    assert all('database "twinlatch_test_missing" does not exist' in line["reason"] for line in log.lines)
    assert str(make_url(library_url).password) not in log.text


async def test_a_read_only_server_is_unavailable_for_writes_only_and_its_connection_is_discarded(
    library: Library,
) -> None:
    # A standby, or a server configured as read-only, returns this error for writes.
    connections = []

    def write(session: Session) -> None:
        connections.append(session.scalar(text("SELECT pg_backend_pid()")))
        session.execute(text("SET TRANSACTION READ ONLY"))
        add_shelf("poems")(session)

    with pytest.raises(DatabaseUnavailable):
        await library.write(write)
    assert len(set(connections)) == 2
    assert await library.read(names) == []


async def test_of_several_hosts_the_one_that_answers_is_used(library_url: str) -> None:
    url = make_url(library_url)
    several = f"postgresql://{url.username}:{url.password}@127.0.0.1:{free_port()},127.0.0.1:{url.port}/{url.database}"
    with opened(normalise(f"{several}?target_session_attrs=read-write")) as library:
        await library.write(add_shelf("poems"))
        assert await library.read(names) == ["poems"]


def test_the_states_are_those_of_the_driver() -> None:
    assert {state.name: state.value for state in SqlState} == {
        state.name: getattr(errorcodes, state.name) for state in SqlState
    }
