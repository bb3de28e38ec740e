"""A small library of shelves and books, on which the tests of the chassis try it out; and what several tests need."""

import io
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import httpx
import structlog
from fastapi import FastAPI
from pydantic import Field
from sqlalchemy import ForeignKey, MetaData, String, UniqueConstraint, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis import application, logs
from chassis.database import Database
from chassis.errors import Conflict, DomainError
from chassis.migrations import Migrations
from chassis.models import COLUMN_TYPES, NAMING_CONVENTION, NEVER_REUSE_IDS, Numbered
from chassis.repository import BaseRepository
from chassis.routing import Router
from chassis.settings import ServiceSettings


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
    # Looked at when the transaction is committed, and not before: a commit that fails.
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


def make_app(*routers: Router, log_in_at: str | None = None, **changes: Any) -> FastAPI:
    return application.build(
        make_settings(**changes),
        title="The <library>",
        version="1.2.3",
        description="Shelves and books.",
        lifespan=_no_lifespan,
        routers=routers,
        log_in_at=log_in_at,
    )


def client_of(app: FastAPI, *, raises: bool = False) -> httpx.AsyncClient:
    """A client without a socket; with `raises`, an exception that cuts the connection arrives as itself."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=raises), base_url="http://library.test"
    )


@contextmanager
def new_library(folder: Path, *, pool_size: int = 5, timeout: float = 5) -> Iterator[Database]:
    """An empty database with both tables, and the `Database` on it."""
    database = Database(f"sqlite:///{folder / 'library.db'}", pool_size, timeout)
    Base.metadata.create_all(database._writes.engine)
    yield database
    database.close()


@contextmanager
def beside(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process's connection, as far as SQLite can tell; it begins and commits what it is told to."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        yield connection
    finally:
        connection.close()


def traced(database: Database, lane: str) -> list[str]:
    """What SQLite is asked on the connections of `reads` or `writes` that are opened from now on."""
    statements: list[str] = []
    engine = getattr(database, f"_{lane}").engine

    @event.listens_for(engine, "connect")
    def trace(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(statements.append)

    return statements


FIRST = '''"""Shelves."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "shelves",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shelves")),
        sa.UniqueConstraint("name", name=op.f("uq_shelves_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "books",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=50), nullable=False),
        sa.Column("shelf_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["shelf_id"], ["shelves.id"], name=op.f("fk_books_shelf_id_shelves"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_books")),
        sa.UniqueConstraint("title", name=op.f("uq_books_title")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("books")
    op.drop_table("shelves")
'''

# SQLite can only do this by making the table anew.
SECOND = '''"""Names may be longer."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
KEEP = {"sqlite_autoincrement": True}


def upgrade() -> None:
    with op.batch_alter_table("shelves", recreate="always", table_kwargs=KEEP) as shelves:
        shelves.alter_column("name", type_=sa.String(length=80))


def downgrade() -> None:
    with op.batch_alter_table("shelves", recreate="always", table_kwargs=KEEP) as shelves:
        shelves.alter_column("name", type_=sa.String(length=50))
'''

BROKEN = '''"""Leaves books without their shelf."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("UPDATE books SET title = title || '!'")
    op.execute("DELETE FROM shelves")


def downgrade() -> None:
    pass
'''


def write_migrations(folder: Path, *sources: str) -> Path:
    """A service's folder of migrations, with these in it."""
    migrations = folder / "library" / "migrations"
    migrations.mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(sources, start=1):
        (migrations / f"{number:04}_migration.py").write_text(source, encoding="utf-8")
    return migrations


def make_migrations(folder: Path, path: Path, sources: Sequence[str] = (FIRST, SECOND)) -> Migrations:
    return Migrations(write_migrations(folder, *sources), Base.metadata, f"sqlite:///{path}")


def rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """What another connection sees."""
    with beside(path) as connection:
        return connection.execute(statement).fetchall()


class Log:
    """What was logged as JSON; `text` is all of it, and `lines` its objects."""

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
    """Logging as a service configures it, and afterwards as it was."""
    log = Log()
    root = logging.getLogger()
    handlers, level_before = root.handlers, root.level
    access = logging.getLogger("uvicorn.access")
    disabled, configuration = access.disabled, structlog.get_config()
    try:
        with redirect_stdout(log._output):
            logs.configure("library", level, log_format)
            yield log
    finally:
        root.handlers = handlers
        root.setLevel(level_before)
        access.disabled = disabled
        structlog.configure(**configuration)
