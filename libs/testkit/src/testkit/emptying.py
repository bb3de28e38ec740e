"""Empties a database for the next test. On PostgreSQL that takes a small part of the time of making a new one."""

import sqlite3
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2.extensions import connection
from sqlalchemy import make_url

from chassis.database.migrations import OWN_TABLES
from chassis.database.url import as_text

Shape = list[tuple[Any, ...]]
"""Everything but rows that a test may leave behind in a database."""

_SHAPE = """
SELECT concat_ws(' ', relname, relkind, attname, format_type(atttypid, atttypmod), attnotnull)
FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT concat_ws(' ', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT array_to_string(setconfig, ' ') FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid
WHERE datname = current_database()
UNION ALL
SELECT version_num FROM alembic_version
ORDER BY 1
"""
_CONNECTIONS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_TABLES = (
    "SELECT quote_ident(tablename), pg_relation_size(quote_ident(tablename)::regclass) FROM pg_tables "
    f"WHERE schemaname = 'public' AND tablename NOT IN ({', '.join(map(repr, OWN_TABLES))})"
)
_RESTART_IDS = (
    "SELECT setval(quote_ident(sequencename)::regclass, start_value, false) FROM pg_sequences "
    "WHERE schemaname = 'public' AND last_value IS NOT NULL"
)

_FEW_BYTES = 256 * 1024
"""Up to this size, tables are emptied by DELETE: TRUNCATE makes new files for each table and index."""


def connect(address: str) -> connection:
    """A connection in autocommit mode."""
    connected = psycopg2.connect(as_text(make_url(address).set(drivername="postgresql")))
    connected.autocommit = True
    return connected


def shape_of(address: str) -> Shape:
    """The shape of a migrated database."""
    with closing(connect(address)) as connected:
        return _rows(connected, _SHAPE)


def try_to_empty(connected: connection, shape: Shape, *, shared: bool = False) -> bool:
    """Empty a PostgreSQL database; return False, and leave it alone, if it no longer has this shape.

    :param shared: an application stays connected. If not, a connection is a reason not to empty it, because its work
        would become part of the next test.
    """
    try:
        if _rows(connected, _SHAPE) != shape or (not shared and _rows(connected, _CONNECTIONS)):
            return False
        tables = _rows(connected, _TABLES)
        if all(size <= _FEW_BYTES for _, size in tables):
            # Like TRUNCATE, wait for transactions that still write. One statement checks foreign keys at its end.
            deletions = ", ".join(f"_{number} AS (DELETE FROM {table})" for number, (table, _) in enumerate(tables))
            locked = ", ".join(table for table, _ in tables)
            statement = f"LOCK TABLE {locked}; WITH {deletions} {_RESTART_IDS}"
        else:
            statement = f"TRUNCATE {', '.join(table for table, _ in tables)} RESTART IDENTITY"
        with connected.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{30 if shared else 1}s'; {statement}")
    except psycopg2.Error:
        return False
    return True


def overwrite(address: str, template: str) -> None:
    """Take a SQLite database back to the state of its template, while applications may be connected."""
    with closing(_opened(template)) as source, closing(_opened(address)) as target:
        source.backup(target)


def _opened(address: str) -> sqlite3.Connection:
    return sqlite3.connect(str(make_url(address).database))


def _rows(connected: connection, statement: str) -> list[tuple[Any, ...]]:
    with connected.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()
