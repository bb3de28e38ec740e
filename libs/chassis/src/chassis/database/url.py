"""Converts database addresses as operators write them into those that SQLAlchemy needs."""

import re
from collections.abc import Sequence

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


DEFAULT_PORT = "5432"

_ROLE = "target_session_attrs"  # of libpq
# What SQLAlchemy takes for a login and for a host. It knows only one host.
_PARTS = re.compile(r"([^:]*://|)((?:[^:/@]*(?::[^@]*)?@)?)([^/?@]*)(.*)", re.DOTALL)
# An IPv6 address has brackets where a port may follow.
_HOST = re.compile(r"\[?([0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*|[^:@\[\]\s]+)\]?(?::([0-9]{1,5}))?")


class UnusableDatabaseUrl(ValueError):
    """The address is malformed or of an unsupported database. The message never contains the address."""


def normalise(url: str, *, replica: bool = False) -> str:
    """The address with the installed driver. Several hosts become the parameters `host` and `port` of libpq.

    PostgreSQL may have several hosts, as libpq and SQLAlchemy write them: `postgresql://h1:5432,h2:5432/name` and
    `postgresql:///name?host=h1:5432&host=h2:5432`. Of these, connections use the primary, or with `replica` a replica.

    Raises UnusableDatabaseUrl for unsupported databases, malformed addresses, roles of servers that don't fit, and
    SQLite in memory: reads and writes use separate connections, and each would see an empty database.
    """
    scheme, login, netloc, rest = _PARTS.fullmatch(url).groups()  # type: ignore[union-attr]
    several = "," in netloc
    try:
        parsed = make_url(f"{scheme}{login}{rest}" if several else url)
    except (ArgumentError, ValueError):
        raise UnusableDatabaseUrl("must be like sqlite:///file.db or postgresql://user:password@host/name") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise UnusableDatabaseUrl("must begin with sqlite:/// or postgresql://")
    if replica and driver == "sqlite":
        raise UnusableDatabaseUrl("must be a PostgreSQL, postgresql://user:password@host/name")
    # A query could say `mode=memory` in several ways, and has no other use here.
    if driver == "sqlite" and (several or not parsed.database or parsed.database == ":memory:" or parsed.query):
        raise UnusableDatabaseUrl("must name a file, sqlite:///file.db; in-memory databases are not supported")
    if driver != "sqlite" and not parsed.database:
        raise UnusableDatabaseUrl("must name a database, postgresql://user:password@host/name")
    parsed = parsed.set(drivername=driver)
    if driver != "sqlite":
        parsed = _with_hosts(parsed, netloc.split(",") if several else [])
        parsed = _with_role(parsed, replica=replica)
        _require_known_parameters(parsed)
    return as_text(parsed)


def _require_known_parameters(url: URL) -> None:
    if not url.query:
        return
    from psycopg2 import ProgrammingError  # With SQLite, nothing imports it.
    from psycopg2.extensions import parse_dsn

    for name in url.query:
        try:
            parse_dsn(f"{name}=''")
        except ProgrammingError:
            # It may be a part of a password that has a question mark.
            raise UnusableDatabaseUrl("has a parameter after the ? that PostgreSQL does not know") from None


def _with_hosts(url: URL, written: Sequence[str]) -> URL:
    """:param written: the hosts between the login and the path, if there are several"""
    if "@" in (url.host or ""):
        raise UnusableDatabaseUrl("has an @ in the login, which must be written as %40")
    in_query = [host for each in url.normalized_query.get("host", ()) for host in each.split(",")]
    if in_query and (written or (url.host and len(in_query) > 1)):
        raise UnusableDatabaseUrl("has hosts twice: before the name of the database, and as parameters")
    tokens = [*written] or in_query
    if not tokens:
        return url
    ports = ",".join(url.normalized_query.get("port", ())).split(",")
    if len(ports) == 1:
        ports *= len(tokens)
    if len(ports) != len(tokens):
        raise UnusableDatabaseUrl("has more ports than hosts, or fewer")
    pairs = []
    for token, port in zip(tokens, ports, strict=True):
        match = _HOST.fullmatch(token)
        number = (match[2] if match else None) or port or str(url.port or DEFAULT_PORT)
        if match is None or not number.isdecimal() or not 1 <= int(number) <= 65535:
            raise UnusableDatabaseUrl("must have hosts like db1:5432,db2:5432, and an @ in the login as %40")
        pairs.append((match[1], number))
    names, numbers = (",".join(column) for column in zip(*pairs, strict=True))
    # A single host as a parameter takes the place of the one before the name, as in libpq.
    without_host = URL.create(url.drivername, url.username, url.password, database=url.database, query=url.query)
    return without_host.update_query_dict({"host": names, "port": numbers})


def _with_role(url: URL, *, replica: bool) -> URL:
    """The address with `target_session_attrs`, which chooses among several hosts and refuses others."""
    given = url.normalized_query.get(_ROLE)
    if given is None:
        if not is_several(url):
            return url
        return url.update_query_dict({_ROLE: "prefer-standby" if replica else "primary"})
    if replica:
        if len(given) > 1 or given[0] not in ("any", "prefer-standby", "standby", "read-only"):
            raise UnusableDatabaseUrl(f"must lead to a replica: {_ROLE}=prefer-standby")
        # Each connection for reads is read-only by itself, so `read-only` would also find the primary.
        return url.update_query_dict({_ROLE: "standby"}) if given[0] == "read-only" else url
    if len(given) > 1 or given[0] not in ("read-write", "primary"):
        raise UnusableDatabaseUrl(f"must lead to the primary: {_ROLE}=read-write")
    return primary_only(url)


def primary_only(url: URL) -> URL:
    """The address, of which a connection refuses each server that is a standby."""
    # libpq would find that a connection for reads is not `read-write`: it is read-only by itself.
    return url if url.get_backend_name() == "sqlite" else url.update_query_dict({_ROLE: "primary"})


def is_several(url: URL) -> bool:
    """Whether a normalised address has several hosts."""
    return len(hosts(url)) > 1


def hosts(url: URL) -> list[str]:
    """The hosts of a normalised address, without their ports; none for a Unix socket in the default place."""
    if url.host:
        return [url.host]
    return [host for each in url.normalized_query.get("host", ()) for host in each.split(",")]


def without_secrets(url: URL) -> str:
    """Where a database of PostgreSQL is, for people."""
    shown = url.set(drivername="postgresql", password=None, query={}).render_as_string()
    if not is_several(url):
        return shown
    ports = url.normalized_query["port"][0].split(",")
    named = [f"[{host}]" if ":" in host else host for host in hosts(url)]
    addresses = ",".join(f"{host}:{port}" for host, port in zip(named, ports, strict=True))
    return shown.replace("@/", f"@{addresses}/") if url.username else shown.replace("///", f"//{addresses}/")


def as_text(url: URL) -> str:
    """The whole address, including the password. For the driver; never log it."""
    return url.render_as_string(hide_password=False)
