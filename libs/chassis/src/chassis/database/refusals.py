"""Why a command can't use a database, as messages for people."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError, OperationalError

from chassis.database.sqlstates import SqlState, first_line, has_state


class MigrationRefused(Exception):
    """This version of the service can't migrate the database. The message is for people, usually one line."""


class DatabaseRefused(MigrationRefused):
    """The database is unavailable, locked, read-only or not accessible for this user."""


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn errors of the database into DatabaseRefused."""
    try:
        yield
    except DatabaseError as error:
        if has_state(error.orig, SqlState.INSUFFICIENT_PRIVILEGE):
            raise DatabaseRefused(f"the database user lacks a permission: {first_line(error)}") from error
        if has_state(error.orig, SqlState.READ_ONLY_SQL_TRANSACTION):
            raise DatabaseRefused(f"the database is a standby or read-only: {first_line(error)}") from error
        # SQLite raises the plain class for a damaged file, and for a file that is not a database.
        if not isinstance(error, OperationalError) and type(error) is not DatabaseError:
            raise
        if "password authentication failed" in str(error.orig):
            raise DatabaseRefused(
                "the database rejects the password of DATABASE_URL or DATABASE_PASSWORD. "
                "The volume of a PostgreSQL container keeps the password that it was created with"
            ) from error
        raise DatabaseRefused(f"the database is unavailable or locked: {first_line(error)}") from error
