"""Errors of the drivers: those of PostgreSQL that the services tell apart, and what may be shown of any.

`psycopg2.errorcodes` has the same names, but psycopg2 takes 5 MB of memory, which a service on SQLite does not need.
"""

from enum import StrEnum

from sqlalchemy.exc import DBAPIError


class SqlState(StrEnum):
    DEADLOCK_DETECTED = "40P01"
    INSUFFICIENT_PRIVILEGE = "42501"
    LOCK_NOT_AVAILABLE = "55P03"
    QUERY_CANCELED = "57014"
    READ_ONLY_SQL_TRANSACTION = "25006"
    UNDEFINED_COLUMN = "42703"
    UNDEFINED_TABLE = "42P01"


def has_state(error: BaseException | None, *states: SqlState) -> bool:
    """Whether it is an error of psycopg2 with one of these states."""
    return getattr(error, "pgcode", None) in states


def first_line(error: DBAPIError) -> str:
    """What the driver says, without the lines that may contain values."""
    return str(error.orig).strip().splitlines()[0]
