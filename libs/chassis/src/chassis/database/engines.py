"""Engines for the two databases, each for reads alone or for writes."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection
from typing import Any

from sqlalchemy import Engine, ExceptionContext, create_engine, event, make_url

DEFAULT_TIMEOUT = 10.0  # seconds

# One round trip for a read: no BEGIN before it and no ROLLBACK after it.
_READ_OPTIONS: dict[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "skip_autocommit_rollback": True,
    "pool_reset_on_return": None,
}


@dataclass(frozen=True)
class Timeouts:
    """How long a request waits for its turn, and then for its work; in seconds."""

    for_turn: float
    for_work: float

    @property
    def for_lock(self) -> float:
        """For what another transaction has locked: the database says that it is busy before the work's time is up."""
        return min(self.for_turn, self.for_work)

    @property
    def until_given_up(self) -> float:
        """For the work, and a moment for the database to say by itself that it has stopped it, and changed nothing."""
        return self.for_work + 0.5


def make_folder(url: str) -> None:
    """Make the folder of a SQLite database, for its owner alone; one that is there stays as it is."""
    path = make_url(url).database
    if path:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_file(url: str) -> None:
    """Make the file of a SQLite database, for its owner alone: SQLite would let everybody read it."""
    path = make_url(url).database
    if path:
        # Where it cannot be made, SQLite says so in a moment.
        with suppress(OSError):
            Path(path).touch(mode=0o600)


def sqlite_engine(url: str, connections: int, timeouts: Timeouts, *, writes: bool) -> Engine:
    make_folder(url)
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeouts.for_turn,
        hide_parameters=True,
        connect_args={"timeout": timeouts.for_lock},
        **({} if writes else _READ_OPTIONS),
    )

    @event.listens_for(engine, "do_connect")
    def make_file_private(*_: object) -> None:
        make_file(url)

    @event.listens_for(engine, "connect")
    def prepare(connection: SQLiteConnection, _record: object) -> None:
        connection.isolation_level = None  # The driver begins nothing by itself; `begin` below does.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        if not writes:
            connection.execute("PRAGMA query_only = ON")

    if writes:

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            # A deferred transaction that turns into a writer fails at once when another one writes, whatever the
            # timeout; this one waits for its turn.
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def postgresql_engine(url: str, connections: int, timeouts: Timeouts, *, writes: bool) -> Engine:
    server_settings = {
        "timezone": "UTC",
        # Whom the client has given up on, the server need not go on with.
        "statement_timeout": round(timeouts.for_work * 1000),
        "lock_timeout": round(timeouts.for_lock * 1000),
        "default_transaction_read_only": "off" if writes else "on",
    }
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeouts.for_turn,
        hide_parameters=True,
        connect_args={
            "connect_timeout": max(2, round(timeouts.for_turn)),  # libpq takes less than 2 for 2.
            # A server that is gone without a word is noticed, instead of holding a thread for hours.
            "tcp_user_timeout": round(timeouts.for_work * 1000),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "options": " ".join(f"-c {name}={value}" for name, value in server_settings.items()),
        },
        **({} if writes else _READ_OPTIONS),
    )

    @event.listens_for(engine, "handle_error")
    def keep_values_out(context: ExceptionContext) -> None:
        # What follows the first line may be the whole row, a password's hash in it, and an error gets into the log.
        for error in (context.original_exception, context.sqlalchemy_exception):
            if error is not None and error.args:
                error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])

    return engine
