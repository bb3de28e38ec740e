"""One database of one service: reads, and writes that are one transaction each.

`Database` runs the use cases of `chassis.use_cases`. A request moves to a worker thread once, for its whole use case:
open a session, run, commit, close. The `commit` in this module is the only one of the project. It happens before the
response is sent, so a failed commit is never reported as a success. docs/decisions/0003 has the reasons.

Reads and writes have separate engines. Reads use autocommit, so a single SELECT is one round trip, on connections that
the database itself treats as read-only. There are as many threads as connections: all other waiting happens on the
event loop, with a timeout, and writers that block each other never take the threads of public reads.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, Engine, Executable, make_url, text
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from chassis import logs
from chassis.database.engines import DEFAULT_TIMEOUT, Timeouts, postgresql_engine, sqlite_engine
from chassis.database.slow_statements import log_slow_statements
from chassis.database.sqlstates import SqlState, has_state
from chassis.database.url import as_text, primary_only
from chassis.errors import DatabaseBusy, DatabaseUnavailable, OutcomeUnknown
from chassis.thread_pool import BoundedThreadPool

if TYPE_CHECKING:
    from chassis.settings import ServiceSettings

_TIMED_OUT = (SqlState.QUERY_CANCELED, SqlState.LOCK_NOT_AVAILABLE, SqlState.DEADLOCK_DETECTED)
# Migrations or permissions are missing, or the server is a read-only standby. SQLite has no error class for these.
_NOT_USABLE = (
    *(SqlState.UNDEFINED_TABLE, SqlState.UNDEFINED_COLUMN, SqlState.INSUFFICIENT_PRIVILEGE),
    SqlState.READ_ONLY_SQL_TRANSACTION,
)

R = TypeVar("R")
S = TypeVar("S", Session, Connection)
P = ParamSpec("P")
T = TypeVar("T")


class Reader:
    """What repositories get in a read instead of a session: the methods of a session that read.

    A statement that selects a model returns rows, which have its columns as attributes. They cost half as much as
    objects that could be changed and stored. They have no properties of the model, and reject changes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.execute = connection.execute

    def scalars(self, statement: Executable, parameters: Any = None) -> Any:
        result = self._connection.execute(statement, parameters)
        # Several columns are those of a model.
        return result if len(result.keys()) > 1 else result.scalars()

    def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return self._connection.scalar(statement, parameters)

    def connection(self) -> Connection:
        return self._connection

    get_bind = connection

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a read has no {name!r}; use Database.write")


class Reads(Generic[R]):
    """The connections and threads for the reads of one database."""

    def __init__(self, engine: Engine, threads: BoundedThreadPool, repositories: Callable[[Session], R]) -> None:
        """
        :param engine: for reads; its pool has as many connections as there are threads
        :param repositories: makes the repositories of a use case, on the session of its transaction
        """
        self._read_engine = engine
        self._reads = threads
        self._repositories = repositories

    async def read(self, work: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on repositories that can't write.

        Its result can be used after the session is closed. If the connection turns out to be broken, `work` runs once
        more on another one. Raises DatabaseBusy or DatabaseUnavailable.
        """
        use_case = partial(_run, self._reader, self._repositories, work, *args, **kwargs)
        try:
            return await self._reads.run(use_case)
        except TimeoutError:
            raise DatabaseUnavailable from None

    async def inspect(self, look: Callable[[Connection], T]) -> T:
        """Run `look` on a connection that can't write. For health checks, which need no repositories."""
        try:
            return await self._reads.run(_run, self._read_engine.connect, _itself, look)
        except TimeoutError:
            raise DatabaseUnavailable from None

    def close(self) -> None:
        """Wait for running work to finish, and close all connections."""
        self._reads.close()
        self._read_engine.dispose()

    @contextmanager
    def _reader(self) -> Iterator[Session]:
        with self._read_engine.connect() as connection:
            yield cast("Session", Reader(connection))


class Database(Reads[R]):
    """The engines and threads of one database. The application factory makes it, and its lifespan closes it."""

    def __init__(
        self,
        url: str,
        repositories: Callable[[Session], R],
        *,
        pool_size: int,
        pool_timeout: float,
        timeout: float = DEFAULT_TIMEOUT,
        slow_statement: float = 0,
    ) -> None:
        """No connection is opened until the first read or write.

        :param url: as `chassis.database.url.normalise` returns it. Of PostgreSQL, only the primary is used: a standby
            is behind it.
        :param repositories: makes the repositories of a use case, on the session of its transaction
        :param pool_size: maximum number of connections; writes get one on SQLite, and half of them on PostgreSQL
        :param pool_timeout: seconds to wait for a connection (on SQLite: for the write lock) before DatabaseBusy
        :param timeout: seconds that one read or write may take once it has a connection
        :param slow_statement: seconds after which a statement is logged as slow; 0 to log none
        """
        timeouts = Timeouts(pool_timeout, timeout)
        address = primary_only(make_url(url))
        sqlite = address.get_backend_name() == "sqlite"
        writers = 1 if sqlite else pool_size // 2
        readers = pool_size - writers
        make = sqlite_engine if sqlite else postgresql_engine
        # SQLite answers "SELECT 1" without reading its file.
        self._ping = text("SELECT count(*) FROM sqlite_master" if sqlite else "SELECT 1")
        read_engine = make(as_text(address), readers, timeouts, writes=False)
        self._write_engine = make(as_text(address), writers, timeouts, writes=True)
        if slow_statement:
            for engine in (read_engine, self._write_engine):
                log_slow_statements(engine, slow_statement)
        reads, self._writes = (
            BoundedThreadPool(name, threads, timeouts.pool_timeout, DatabaseBusy, timeouts.run_timeout)
            for name, threads in (("database-read", readers), ("database-write", writers))
        )
        super().__init__(read_engine, reads, repositories)

    @classmethod
    def from_settings(cls, settings: "ServiceSettings", repositories: Callable[[Session], R]) -> "Database[R]":
        """The database of a service, as its settings describe it."""
        return cls(
            settings.database_url,
            repositories,
            pool_size=settings.database_pool_size,
            pool_timeout=settings.database_pool_timeout,
            timeout=settings.database_timeout,
            slow_statement=settings.slow_statement_seconds,
        )

    async def write(self, work: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in one transaction and commit it; any exception rolls everything back.

        Its result can be used after the session is closed. If the connection is lost before the commit, when nothing
        has been stored, `work` runs once more on another one; so it must create its new objects itself. Raises
        DatabaseBusy or DatabaseUnavailable if nothing was changed, and OutcomeUnknown if that is unknown.
        """
        try:
            return await self._writes.run(partial(_run, self._writer, self._repositories, work, *args, **kwargs))
        except TimeoutError:
            raise OutcomeUnknown from None

    async def ping(self) -> None:
        """Check that the database answers; raises DatabaseBusy or DatabaseUnavailable."""
        await self.inspect(lambda connection: connection.execute(self._ping))

    def close(self) -> None:
        """Wait for running work to finish, and close all connections."""
        super().close()
        self._writes.close()
        self._write_engine.dispose()

    @contextmanager
    def _writer(self) -> Iterator[Session]:
        with Session(self._write_engine, expire_on_commit=False) as session:
            yield session
            # If the connection is lost before this point, nothing has been stored; after it, the outcome is unknown.
            session.flush()
            _commit(session)


def _run(
    open_session: Callable[[], AbstractContextManager[S]],
    prepare: Callable[[S], Any],
    work: Callable[..., T],
    *args: Any,
    **kwargs: Any,
) -> T:
    """Run the work on one session, in a worker thread; retry once on disconnect.

    A pooled connection may have been dead for a long time. The second session gets a fresh one.
    """
    with _translated_errors():
        for is_last in (False, True):
            try:
                with open_session() as session:
                    result = work(prepare(session), *args, **kwargs)
            except DBAPIError as error:
                if is_last or not error.connection_invalidated:
                    raise
            else:
                return result
    raise AssertionError  # The last session returns or raises.


def _itself(connection: Connection) -> Connection:
    return connection


def _commit(session: Session) -> None:
    try:
        session.commit()
    except BaseException as error:
        # After a failed commit SQLite leaves the transaction open, and SQLAlchemy would give the connection to the
        # next write. No later write could begin a transaction.
        session.invalidate()
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise OutcomeUnknown from error
        raise


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate the driver's errors of an unavailable or busy database into domain errors."""
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseBusy from error
    except (OperationalError, InterfaceError) as error:
        _raise_for(error)
    except DBAPIError as error:
        # The plain class stands for a damaged file in SQLite, and for a broken connection in psycopg2.
        if error.connection_invalidated or has_state(error.orig, *_NOT_USABLE) or type(error) is DatabaseError:
            _raise_for(error)
        raise


def _raise_for(error: DBAPIError) -> NoReturn:
    if _has_timed_out(error.orig):
        raise DatabaseBusy from error
    # The reason is logged but not sent to the client.
    reason = str(error.orig).strip().partition("\n")[0]
    logs.get("chassis.database").warning("database unavailable", reason=reason)
    raise DatabaseUnavailable from error


def _has_timed_out(error: BaseException | None) -> bool:
    """Whether a statement, or the wait for a lock, took too long."""
    if hasattr(error, "pgcode"):
        return has_state(error, *_TIMED_OUT)
    from sqlite3 import SQLITE_INTERRUPT  # With PostgreSQL, nothing imports it.

    # Errors of the module itself have no code.
    return getattr(error, "sqlite_errorcode", None) == SQLITE_INTERRUPT or "database is locked" in str(error)
