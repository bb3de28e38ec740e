"""Database addresses as people type them, turned into the ones that SQLAlchemy gets."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

# SQLAlchemy 2.1 takes a plain `postgresql://` for psycopg 3; `postgres://` is what hosting providers hand out.
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg2",
    "postgresql": "postgresql+psycopg2",
    "postgresql+psycopg2": "postgresql+psycopg2",
}


class UnusableDatabaseUrl(ValueError):
    """The address is not one of a database that this project knows. The message never holds the address."""


def normalise(url: str) -> str:
    """The address with the driver that is installed here.

    Raises UnusableDatabaseUrl for another database, for a malformed address, and for SQLite in memory: reads and
    writes have connections of their own, and each would see an empty database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UnusableDatabaseUrl("must be like sqlite:///file.db or postgresql://user:password@host/name") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise UnusableDatabaseUrl("must begin with sqlite:/// or postgresql://")
    # What may follow a question mark is `mode=memory` in several disguises, and nothing that anybody needs.
    if driver == "sqlite" and (not parsed.database or parsed.database == ":memory:" or parsed.query):
        raise UnusableDatabaseUrl("must name a file, sqlite:///file.db; a database in memory is not shared")
    if driver != "sqlite" and not parsed.database:
        raise UnusableDatabaseUrl("must name a database, postgresql://user:password@host/name")
    return as_text(parsed.set(drivername=driver))


def as_text(url: URL) -> str:
    """The whole address, its password included: for the driver, never for a log."""
    return url.render_as_string(hide_password=False)
