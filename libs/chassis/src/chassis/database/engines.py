"""SQLAlchemy engines for the two databases, either for reads or for writes."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from chassis.database.sqlstates import SqlState, has_state
from chassis.database.url import hosts

if TYPE_CHECKING:
    from sqlite3 import Connection as SQLiteConnection

DEFAULT_TIMEOUT = 10.0  # seconds

SECURE_DELETE = "secure_delete = ON"
"""The pragma of SQLite that overwrites deleted content with zeros; else it stays in the file until overwritten."""

# A read is one round trip: no BEGIN before it and no ROLLBACK after it.
_READ_OPTIONS: dict[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "skip_autocommit_rollback": True,
    "pool_reset_on_return": None,
}


# Instructions of SQLite between two looks at the clock: some milliseconds of work. Each look waits for Python's lock.
_INTERVAL = 100_000


@dataclass(frozen=True)
class Timeouts:
    """The timeouts of a read or write, in seconds."""

    pool_timeout: float
    """To wait for a connection."""

    statement_timeout: float
    """For the statements, once there is a connection."""

    @property
    def lock_timeout(self) -> float:
        """To wait for a lock: the client gets `database-busy` before the statement times out."""
        return min(self.pool_timeout, self.statement_timeout)

    @property
    def run_timeout(self) -> float:
        """For the whole work: leaves the database a moment to report that it cancelled the statement itself."""
        return self.statement_timeout + 0.5


class Deadline:
    """The time at which the statement of a connection has to end. SQLite has no timeout of its own for that."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = math.inf

    def start(self) -> None:
        self._end = time.monotonic() + self._seconds

    def has_passed(self) -> bool:
        return time.monotonic() > self._end


def make_folder(url: str) -> None:
    """Create the folder of a SQLite database, accessible by its owner only. An existing folder stays unchanged."""
    path = make_url(url).database
    if path:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_file(url: str) -> None:
    """Create the file of a SQLite database, accessible by its owner only: SQLite would let all users read it."""
    path = make_url(url).database
    if path:
        # If this fails, SQLite fails next, with a better message.
        with suppress(OSError):
            Path(path).touch(mode=0o600)


def sqlite_engine(url: str, connections: int, timeouts: Timeouts, *, writes: bool) -> Engine:
    make_folder(url)
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeouts.pool_timeout,
        hide_parameters=True,
        connect_args={"timeout": timeouts.lock_timeout},
        **({} if writes else _READ_OPTIONS),
    )

    @event.listens_for(engine, "do_connect")
    def make_file_private(*_: object) -> None:
        make_file(url)

    @event.listens_for(engine, "connect")
    def prepare(connection: "SQLiteConnection", record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # `begin` below starts transactions, not the driver.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", SECURE_DELETE):
            connection.execute(f"PRAGMA {pragma}")
        if not writes:
            connection.execute("PRAGMA query_only = ON")
        deadline = record.info["deadline"] = Deadline(timeouts.statement_timeout)
        connection.set_progress_handler(deadline.has_passed, _INTERVAL)

    @event.listens_for(engine, "before_cursor_execute")
    def start_deadline(connection: Connection, *_: object) -> None:
        connection.info["deadline"].start()

    if writes:

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            # A deferred transaction fails at its first write if another transaction is writing, whatever the
            # timeout. An immediate transaction waits for the lock.
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def postgresql_engine(
    url: str, connections: int, timeouts: Timeouts, *, writes: bool, connection_lifetime: int = -1
) -> Engine:
    """:param connection_lifetime: seconds after which a connection is replaced; -1 for never"""
    server_settings = {
        "timezone": "UTC",
        # Cancel statements whose client has timed out.
        "statement_timeout": round(timeouts.statement_timeout * 1000),
        "lock_timeout": round(timeouts.lock_timeout * 1000),
        "default_transaction_read_only": "off" if writes else "on",
    }
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeouts.pool_timeout,
        pool_recycle=connection_lifetime,
        hide_parameters=True,
        connect_args={
            "client_encoding": "utf8",
            # For each host. libpq raises lower values to 2.
            "connect_timeout": max(2, round(timeouts.pool_timeout / max(1, len(hosts(make_url(url)))))),
            # Detect a server that has vanished, which would otherwise block a thread for hours.
            "tcp_user_timeout": round(timeouts.statement_timeout * 1000),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "options": " ".join(f"-c {name}={value}" for name, value in server_settings.items()),
        },
        **({} if writes else _READ_OPTIONS),
    )

    @event.listens_for(engine, "handle_error")
    def forget_standby(context: ExceptionContext) -> None:
        # This server has become a standby behind the same address: let the next connection find the primary.
        if writes and has_state(context.original_exception, SqlState.READ_ONLY_SQL_TRANSACTION):
            context.is_disconnect = True

    @event.listens_for(engine, "handle_error")
    def keep_values_out(context: ExceptionContext) -> None:
        # The lines after the first may contain the whole row, with a password hash, and errors are logged.
        for error in (context.original_exception, context.sqlalchemy_exception):
            if error is not None and error.args:
                error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])

    return engine
