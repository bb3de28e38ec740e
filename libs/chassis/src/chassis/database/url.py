"""Converts database addresses as operators write them into those that SQLAlchemy needs."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

# SQLAlchemy 2.1 reads `postgresql://` as psycopg 3. Hosting providers use `postgres://`.
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg2",
    "postgresql": "postgresql+psycopg2",
    "postgresql+psycopg2": "postgresql+psycopg2",
}


class UnusableDatabaseUrl(ValueError):
    """The address is malformed or of an unsupported database. The message never contains the address."""


def normalise(url: str) -> str:
    """The address with the installed driver.

    Raises UnusableDatabaseUrl for unsupported databases, malformed addresses, and SQLite in memory: reads and writes
    use separate connections, and each would see an empty database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UnusableDatabaseUrl("must be like sqlite:///file.db or postgresql://user:password@host/name") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise UnusableDatabaseUrl("must begin with sqlite:/// or postgresql://")
    # A query could say `mode=memory` in several ways, and has no other use here.
    if driver == "sqlite" and (not parsed.database or parsed.database == ":memory:" or parsed.query):
        raise UnusableDatabaseUrl("must name a file, sqlite:///file.db; in-memory databases are not supported")
    if driver != "sqlite" and not parsed.database:
        raise UnusableDatabaseUrl("must name a database, postgresql://user:password@host/name")
    return as_text(parsed.set(drivername=driver))


def as_text(url: URL) -> str:
    """The whole address, including the password. For the driver; never log it."""
    return url.render_as_string(hide_password=False)
