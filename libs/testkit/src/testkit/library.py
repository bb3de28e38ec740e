"""A small example application, a library of shelves and books, and helpers for the tests of chassis."""

import asyncio
import io
import json
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import httpx
import structlog
from fastapi import FastAPI
from pydantic import Field
from sqlalchemy import (
    Connection,
    ForeignKey,
    MetaData,
    NullPool,
    String,
    UniqueConstraint,
    create_engine,
    event,
    make_url,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from chassis import logs
from chassis.database.models import COLUMN_TYPES, NAMING_CONVENTION, NEVER_REUSE_IDS, Numbered
from chassis.database.repository import BaseRepository
from chassis.database.transactions import Database
from chassis.database.url import as_text
from chassis.errors import Conflict, DomainError
from chassis.http import application
from chassis.http.bearer import Authenticate, no_authentication
from chassis.http.routing import Router
from chassis.settings import ServiceSettings

THREAD_TIMEOUT = 10  # seconds to wait for another thread


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = COLUMN_TYPES


class Shelf(Numbered, Base):
    __tablename__ = "shelves"
    __table_args__ = (UniqueConstraint("name"), NEVER_REUSE_IDS)

    name: Mapped[str] = mapped_column(String(50))


class Book(Numbered, Base):
    __tablename__ = "books"
    __table_args__ = (UniqueConstraint("title"), NEVER_REUSE_IDS)

    title: Mapped[str] = mapped_column(String(50))
    # Checked on commit only, so that a commit can fail.
    shelf_id: Mapped[int | None] = mapped_column(
        ForeignKey("shelves.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED")
    )


class TitleTaken(Conflict):
    code = "title-taken"
    detail = "Another book has this title."


class ShelfRepository(BaseRepository[Shelf]):
    model = Shelf


class BookRepository(BaseRepository[Book]):
    model = Book
    conflicts: ClassVar[dict[str, type[DomainError]]] = {"books.title": TitleTaken}


class LibrarySettings(ServiceSettings):
    service: ClassVar[str] = "library"
    port: int = Field(default=8099, ge=1, le=65535, description="The port to listen on.")


def make_settings(**changes: Any) -> LibrarySettings:
    return LibrarySettings(_env_file=None, **changes)


@asynccontextmanager
async def _no_lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield


def make_app(
    *routers: Router, authenticate: Authenticate = no_authentication, login_origin: str | None = None, **changes: Any
) -> FastAPI:
    return application.build(
        make_settings(**changes),
        title="The <library>",
        version="1.2.3",
        description="Shelves and books.",
        lifespan=_no_lifespan,
        routers=routers,
        authenticate=authenticate,
        login_origin=login_origin,
    )


def client_of(app: FastAPI, *, raises: bool = False) -> httpx.AsyncClient:
    """A client without a socket.

    :param raises: raise exceptions that would close the connection
    """
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=raises), base_url="http://library.test"
    )


Library = Database[Session]
"""A database whose use cases get the session instead of repositories."""


def open_library(
    url: str, *, pool_size: int = 5, pool_timeout: float = 5, timeout: float = 10, slow_statement: float = 0
) -> Library:
    return Database(
        url,
        lambda session: session,
        pool_size=pool_size,
        pool_timeout=pool_timeout,
        timeout=timeout,
        slow_statement=slow_statement,
    )


@contextmanager
def opened(url: str, **options: Any) -> Iterator[Library]:
    """The same as `open_library`, closed when the context ends."""
    database = open_library(url, **options)
    yield database
    database.close()


@contextmanager
def connection_to(url: str) -> Iterator[Connection]:
    """A separate connection, in a transaction that is committed at the end."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


@contextmanager
def role_without_permissions(url: str) -> Iterator[str]:
    """The address of a PostgreSQL database for a new role, which may connect and read nothing."""
    address = make_url(url)
    role, password = str(address.database).replace("twinlatch_test", "twinlatch_role"), secrets.token_hex()
    with connection_to(url) as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    try:
        yield as_text(address.set(username=role, password=password))
    finally:
        with connection_to(url) as connection:
            connection.exec_driver_sql(f"DROP ROLE {role}")


@contextmanager
def write_locked(url: str) -> Iterator[None]:
    """Hold a lock in a separate transaction, which blocks writes but not reads."""
    with connection_to(url) as connection:
        on_sqlite = connection.dialect.name == "sqlite"
        connection.exec_driver_sql("BEGIN IMMEDIATE" if on_sqlite else "LOCK TABLE shelves, books IN EXCLUSIVE MODE")
        yield


def path_of(url: str) -> Path:
    """The file of a SQLite database."""
    return Path(str(make_url(url).database))


def connections_to(url: str) -> int:
    """The number of other connections to this database, as the PostgreSQL server reports it."""
    others = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    return int(rows(url, f"SELECT count(*) FROM pg_stat_activity WHERE {others}")[0][0])


def eventually(probe: Callable[[], object], within: float = THREAD_TIMEOUT) -> None:
    """Wait until `probe` returns a true value; raise AssertionError on a timeout."""
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, f"still false after {within} s"
        time.sleep(0.01)


def add_shelf(name: str) -> Callable[[Session], int]:
    def work(session: Session) -> int:
        shelf = Shelf(name=name)
        session.add(shelf)
        session.flush()
        return shelf.id

    return work


def names(session: Session) -> list[str]:
    return list(session.scalars(select(Shelf.name).order_by(Shelf.id)))


class BlockedWork:
    """Work that blocks its thread until `release` is called."""

    def __init__(self, before: Callable[[Session], object] = lambda _: None) -> None:
        self._before = before
        self._entered = threading.Event()
        self._released = threading.Event()
        self.finished = threading.Event()

    def __call__(self, session: Session) -> str:
        self._before(session)
        self._entered.set()
        assert self._released.wait(THREAD_TIMEOUT), "the work was never released"
        self.finished.set()
        return "done"

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, THREAD_TIMEOUT)

    def release(self) -> None:
        self._released.set()


@contextmanager
def sqlite_connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A raw connection, like one of another process; the test controls its transactions."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        yield connection
    finally:
        connection.close()


def trace_statements(database: Library, purpose: str) -> list[str]:
    """Record the statements on `read` or `write` connections that are opened from now on."""
    statements: list[str] = []
    engine = getattr(database, f"_{purpose}_engine")

    @event.listens_for(engine, "connect")
    def trace(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(statements.append)

    return statements


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on a separate connection, and return its rows."""
    with connection_to(url) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


class Log:
    """Captured logs; `lines` are the decoded JSON objects."""

    def __init__(self) -> None:
        self._output = io.StringIO()

    @property
    def text(self) -> str:
        return self._output.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["message"] == "request"]


@contextmanager
def logged(level: str = "INFO", log_format: logs.LogFormat = "json") -> Iterator[Log]:
    """Configure logging like a service, capture it, and restore the previous configuration."""
    log = Log()
    root = logging.getLogger()
    handlers, level_before = root.handlers, root.level
    access = logging.getLogger("uvicorn.access")
    disabled, configuration = access.disabled, structlog.get_config()
    processors = configuration["processors"].copy()
    try:
        with redirect_stdout(log._output):
            logs.configure("library", level, log_format)
            yield log
    finally:
        root.handlers = handlers
        root.setLevel(level_before)
        access.disabled = disabled
        configuration["processors"][:] = processors
        structlog.configure(**configuration)
