"""One database of one service: reads, and writes that are one transaction each.

A request hops into a worker thread once, with the whole use case: open a session, run it, commit, close. The
`commit` in `write` is the only one of the whole tree. It happens before the response is sent, so that a client
never hears of a success that a failing commit then takes back. Why it is so: docs/decisions/0003.

Reads and writes have an engine each. A read runs in autocommit, so that a single SELECT is one round trip, on
connections that the database itself holds read-only. The number of threads that wait for the database is the
number of connections: all other waiting happens on the event loop, with a deadline, and writers that block each
other never take the threads of public reads.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from psycopg2.errorcodes import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    READ_ONLY_SQL_TRANSACTION,
    UNDEFINED_COLUMN,
    UNDEFINED_TABLE,
)
from sqlalchemy import make_url, text
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from chassis import logs
from chassis.database.engines import DEFAULT_TIMEOUT, Timeouts, postgresql_engine, sqlite_engine
from chassis.errors import DatabaseBusy, DatabaseUnavailable, OutcomeUnknown
from chassis.thread_pool import Lane

_WAITED_TOO_LONG = (QUERY_CANCELED, LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED)
# Migrations are behind, or the server is a standby that takes no writes; SQLite has no class of its own for these.
_NOT_AS_NEEDED = (UNDEFINED_TABLE, UNDEFINED_COLUMN, READ_ONLY_SQL_TRANSACTION)

T = TypeVar("T")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)


class ReadSession(Session):
    """A session that refuses to flush: a change made in a read is a mistake, and must not be lost silently."""

    def flush(self, objects: Any = None) -> None:
        if self.new or self.deleted or any(self.is_modified(each) for each in self.dirty):
            raise RuntimeError("a read tried to write; run it with Database.write")


class Database:
    """The engines, threads and sessions of one database; made in the application factory, closed in its lifespan."""

    def __init__(self, url: str, pool_size: int, pool_timeout: float, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Open nothing yet: the first connection is made when it is needed.

        :param url: as `chassis.database.url.normalise` returns it
        :param pool_size: connections held at most; SQLite has one writer, PostgreSQL gives half to writes
        :param pool_timeout: seconds to wait for a connection (on SQLite: for the write lock) before DatabaseBusy
        :param timeout: seconds that one read or write may take, once it has its connection
        """
        timeouts = Timeouts(pool_timeout, timeout)
        sqlite = make_url(url).get_backend_name() == "sqlite"
        writers = 1 if sqlite else pool_size // 2
        readers = pool_size - writers
        make = sqlite_engine if sqlite else postgresql_engine
        # SQLite would say 1 without a look at its file.
        self._sign_of_life = text("SELECT count(*) FROM sqlite_master" if sqlite else "SELECT 1")
        self._within = timeouts.until_given_up
        self._read_engine = make(url, readers, timeouts, writes=False)
        self._write_engine = make(url, writers, timeouts, writes=True)
        self._reads = Lane("database-read", readers, timeouts.for_turn, DatabaseBusy)
        self._writes = Lane("database-write", writers, timeouts.for_turn, DatabaseBusy)

    async def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` with a session that cannot write.

        What it returns can be used after the session is closed. It may run a second time, on another connection,
        where the first one turns out to be broken. Raises DatabaseBusy or DatabaseUnavailable.
        """

        def run() -> T:
            with ReadSession(self._read_engine, autoflush=False, expire_on_commit=False) as session:
                result = work(session)
                session.flush()  # Sends nothing: it refuses what would be lost.
                return result

        try:
            return await self._reads.run(lambda: _twice_if_the_connection_is_lost(run), self._within)
        except TimeoutError:
            raise DatabaseUnavailable from None

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction and commit it; whatever it raises rolls everything back.

        What it returns can be used after the session is closed. It may run a second time, on another connection,
        where the first one is lost before the commit, which means that nothing had been stored; so it makes its new
        objects itself. Raises DatabaseBusy or DatabaseUnavailable if nothing was changed, and OutcomeUnknown if
        nobody can tell.
        """

        def run() -> T:
            with Session(self._write_engine, expire_on_commit=False) as session:
                result = work(session)
                session.flush()  # Up to here a lost connection means that nothing was stored; from here on it may be.
                try:
                    session.commit()
                except BaseException as error:
                    # SQLite leaves a transaction open whose commit failed, and SQLAlchemy would hand its connection
                    # to the next write, which could not begin; nor could any other after it.
                    session.invalidate()
                    if isinstance(error, DBAPIError) and error.connection_invalidated:
                        raise OutcomeUnknown from error
                    raise
                return result

        try:
            return await self._writes.run(lambda: _twice_if_the_connection_is_lost(run), self._within)
        except TimeoutError:
            raise OutcomeUnknown from None

    async def ping(self) -> None:
        """Ask the database for a sign of life; raises DatabaseBusy or DatabaseUnavailable."""
        await self.read(lambda session: session.execute(self._sign_of_life))

    def close(self) -> None:
        """Wait for what is running, and close all connections."""
        for lane, engine in ((self._reads, self._read_engine), (self._writes, self._write_engine)):
            lane.close()
            engine.dispose()


class Unit(Protocol[S_co]):
    """Runs one use case of a service: `product = await write(lambda products: products.create(draft, owner))`."""

    async def __call__(self, work: Callable[[S_co], T]) -> T: ...


@dataclass(frozen=True)
class UnitOf(Generic[S]):
    """`Database.read` or `Database.write`, with the service that `build` makes on the session."""

    run: Callable[[Callable[[Session], Any]], Awaitable[Any]]
    build: Callable[[Session], S]

    async def __call__(self, work: Callable[[S], T]) -> T:
        result: T = await self.run(lambda session: work(self.build(session)))
        return result


def _twice_if_the_connection_is_lost(run: Callable[[], T]) -> T:
    """A pooled connection may have been dead for long when it is used; on a fresh one the same succeeds."""
    with _translated():
        try:
            return run()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return run()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the driver says of a database that is away or busy into the two errors that a client is told."""
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseBusy from error
    except (OperationalError, InterfaceError) as error:
        _raise_for(error)
    except DBAPIError as error:
        # The plain class is what SQLite has for a damaged file, and psycopg2 for a connection that broke.
        not_as_needed = getattr(error.orig, "pgcode", None) in _NOT_AS_NEEDED
        if error.connection_invalidated or not_as_needed or type(error) is DatabaseError:
            _raise_for(error)
        raise


def _raise_for(error: DBAPIError) -> NoReturn:
    if "database is locked" in str(error.orig) or getattr(error.orig, "pgcode", None) in _WAITED_TOO_LONG:
        raise DatabaseBusy from error
    # The client hears that the database is away; only the log says why.
    reason = str(error.orig).strip().partition("\n")[0]
    logs.get("chassis.database").warning("database unavailable", reason=reason)
    raise DatabaseUnavailable from error
