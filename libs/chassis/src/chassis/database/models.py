"""The common base of all tables: constraint names, times in UTC, and ids that are never reused."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Dialect, Identity, Integer, MetaData, Table
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# A migration can drop a named constraint, and an error of either database identifies it.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware datetime, returned in UTC. PostgreSQL stores it as timestamptz, SQLite without a time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("can't store a datetime without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


COLUMN_TYPES: dict[Any, Any] = {datetime: UtcDateTime}
"""The column types for annotations, in addition to SQLAlchemy's own."""


NEVER_REUSE_IDS = {"sqlite_autoincrement": True}
"""Table arguments that every `Numbered` model needs: without them SQLite reuses the largest id after a deletion."""


class Numbered:
    """A model with an `id` that is never reused, not even after the newest row was deleted."""

    # SQLite supports AUTOINCREMENT only for INTEGER, which has 64 bits there.
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True, sort_order=-1
    )


BACKUPS = "backups"


def backups_table(metadata: MetaData) -> Table:
    """The table with the time of the last backup: no row, or one."""
    return Table(BACKUPS, metadata, Column("finished_at", UtcDateTime(), primary_key=True))
