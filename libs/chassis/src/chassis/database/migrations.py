"""Migrations with Alembic, under a lock: the first process migrates, and the others wait and find it done.

Each service has its migrations in its own package, so that an installed wheel can migrate its database. All services
share the Alembic environment: `alembic_environment`.

The database may be newer than the code: `compatibility` says when that code can use it.

Functions import Alembic when they need it. A service whose database is up to date never does: it only compares the
revision of the database with `head`. Alembic would take a tenth of its start, and 7 MB of its memory.
"""

import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import URL, Column, Connection, MetaData, NullPool, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from chassis.database import compatibility
from chassis.database.engines import SECURE_DELETE, make_file, make_folder
from chassis.database.refusals import MigrationRefused, readable_errors
from chassis.database.url import without_secrets

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

# The same for every service: each has its own database, and the lock belongs to the database.
_ADVISORY_LOCK = 7_305_218_433_005_317_116
_LOCK_TIMEOUT = 60  # seconds to wait for a migration by another process

_REVISION_TABLE = "alembic_version"
_CURRENT_REVISION = text(f"SELECT version_num FROM {_REVISION_TABLE}")  # noqa: S608 - a constant

OWN_TABLES = (_REVISION_TABLE, compatibility.TABLE_NAME)
"""The tables that describe the schema, and hold nothing of a service."""

_REVISION = re.compile(r"""^(revision|down_revision)\b[^=\n]*=\s*["'](.+)["']""", re.MULTILINE)
"""The lines of a migration that name it and its predecessor."""


def _same_default(_: object, __: object, column: Column[Any], *___: object) -> Literal[False] | None:
    """Ignore identity columns, which SQLite does not have; leave other columns to Alembic's own comparison."""
    return False if column.identity is not None else None


class SchemaState(Enum):
    """How a database relates to this version of its service."""

    BEHIND = auto()
    """It has not been migrated to this version."""

    USABLE = auto()
    """It is at the revision of this version, or at a newer one that still supports this version."""

    TOO_NEW = auto()
    """A newer version that no longer supports this one has migrated it, or it belongs to another service."""


class _DryRun(Exception):
    """Rolls the transaction of a dry run back."""


class Migrations:
    """The migrations of one service, on one database."""

    def __init__(
        self, folder: Path, metadata: MetaData, database_url: str, made_by_migrations: Collection[str] = ()
    ) -> None:
        """
        :param folder: the folder with the service's migrations, in its package
        :param metadata: of the service's models
        :param database_url: as `chassis.database.url.normalise` returns it
        :param made_by_migrations: names of tables, columns and indexes that are in no model, because only one of the
            databases supports them
        """
        self._folder = folder
        self._is_sqlite = make_url(database_url).get_backend_name() == "sqlite"
        # How Alembic compares the models with the database.
        self._comparison: dict[str, Any] = {
            "compare_type": True,
            "compare_server_default": _same_default if self._is_sqlite else True,
            "include_name": lambda name, _kind, _parents: name not in {*made_by_migrations, *OWN_TABLES},
        }
        self._service = folder.parent.name
        self.metadata = metadata
        self._url = database_url

    @cached_property
    def head(self) -> str | None:
        """The revision that this version of the service requires: the one that no other revision follows."""
        return next(iter(self._named["revision"] - self._named["down_revision"]), None)

    @cached_property
    def _named(self) -> dict[str, set[str]]:
        """The revisions that the migrations name as their own, and as their predecessor."""
        named: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
        for path in self._folder.glob("*.py"):
            for name, revision in _REVISION.findall(path.read_text(encoding="utf-8")):
                named[name].add(revision)
        return named

    def revisions(self) -> list[str]:
        """All revisions that this version of the service knows, oldest first."""
        return [script.revision for script in reversed(list(self._scripts.walk_revisions()))]

    def upgrade(self, revision: str = "head", *, dry_run: bool = False) -> bool:
        """Upgrade the database to `revision` in one transaction; return whether anything changed.

        A newer database that supports this version stays as it is. The lock is only taken if there is something to do,
        so a process can start while another one migrates. Raises MigrationRefused if the database is too new or
        belongs to another service, or if a migration refuses its content.

        :param dry_run: run the migrations, but roll them back; refused if there is no SQLite file
        """
        target = self.head if revision == "head" else revision
        if dry_run:
            self._require_file()
        self._prepare_file()
        with self._connected() as connection:
            if not self._is_upgrade(self.revision(connection), target):
                return False
        changed = False
        with suppress(_DryRun), self.locked() as connection:
            # Another process may have migrated in the meantime.
            changed = self._is_upgrade(self.revision(connection), target)
            if changed:
                self.move_to(connection, revision)
            if dry_run:
                raise _DryRun
        return changed

    def _is_upgrade(self, found: str | None, target: str | None) -> bool:
        return found != target and not self._is_unknown(found)

    def downgrade(self, revision: str) -> None:
        """Downgrade the database to `revision` in one transaction; `base` drops everything."""
        with self.locked() as connection:
            self.move_to(connection, revision)

    def move_to(self, connection: Connection, revision: str = "head") -> None:
        """Upgrade or downgrade the database to `revision`, in a transaction of `locked`.

        Raises MigrationRefused if the database has migrations that this version does not know.
        """
        from alembic import command

        before = self.revision(connection)
        if self._is_unknown(before):
            raise MigrationRefused(f"the database is at revision {before}, which this version does not know")
        known = ["base", *self.revisions(), "head"]
        is_older = known.index(before or "base") > known.index(revision)
        with _tables_intact(connection):
            (command.downgrade if is_older else command.upgrade)(self._config_on(connection), revision)
        self._record_floor(connection)

    def write_revision(self, message: str) -> Path:
        """Write the next migration, from the differences between the models and the migrated database.

        Raises MigrationRefused if the database has migrations that this version does not know.
        """
        from alembic import command

        # With the service's name in it, a revision can't be confused with one of another service.
        revision = f"{self._service}_{len(self.revisions()) + 1:04}"
        with self.locked() as connection:
            if self._is_unknown(self.revision(connection)):
                raise MigrationRefused(
                    "the database is newer than this version, so it can't be compared with the models"
                )
            script = command.revision(self._config_on(connection), message, autogenerate=True, rev_id=revision)
        if script is None or isinstance(script, list):
            raise MigrationRefused("no migration was written")
        return Path(script.path)

    def differences(self) -> list[Any]:
        """The differences that Alembic finds between the models and the database."""
        from alembic.autogenerate import compare_metadata
        from alembic.runtime.migration import MigrationContext

        with self.locked() as connection:
            return [*compare_metadata(MigrationContext.configure(connection, opts=self._comparison), self.metadata)]

    def require_current(self) -> None:
        """Raise MigrationRefused unless the database exists, is migrated and supports this version. Creates nothing."""
        self._require_file()
        try:
            with self._connected() as connection:
                is_behind = self._is_upgrade(self.revision(connection), self.head)
        except MigrationRefused as error:
            raise type(error)(f"{error} (at {self._address})") from error
        if is_behind:
            raise MigrationRefused(f"the database at {self._address} is not migrated to this version")

    def _require_file(self) -> None:
        if self._is_sqlite and not Path(make_url(self._url).database or "").is_file():
            raise MigrationRefused(f"there is no database at {self._address}")

    @property
    def _address(self) -> str:
        """Where the database is, without secrets."""
        url = make_url(self._url)
        if self._is_sqlite:
            return str(Path(url.database or "").absolute())
        return without_secrets(url)

    def state(self, connection: Connection) -> SchemaState:
        """How the database relates to this version. Takes one query, or two if the database is newer."""
        try:
            revision: str | None = connection.scalar(_CURRENT_REVISION)
        except DBAPIError:
            # Without the table, the database was never migrated. If the table exists, or this can't be found out, the
            # query failed for another reason.
            connection.rollback()
            if inspect(connection).has_table(_REVISION_TABLE):
                raise
            return SchemaState.BEHIND
        if revision == self.head or (self._is_unknown(revision) and self._is_supported(connection, revision)):
            return SchemaState.USABLE
        return SchemaState.TOO_NEW if self._is_unknown(revision) else SchemaState.BEHIND

    @cached_property
    def _config(self) -> "Config":
        from alembic.config import Config

        config = Config()
        for option, value in (
            ("script_location", str(Path(__file__).parent / "alembic_environment")),
            ("version_locations", str(self._folder)),
            ("path_separator", "newline"),
            ("file_template", "%(rev)s_%(slug)s"),
        ):
            # The option parser interpolates percent signs.
            config.set_main_option(option, value.replace("%", "%%"))
        config.attributes.update(metadata=self.metadata, comparison=self._comparison)
        return config

    def _config_on(self, connection: Connection) -> "Config":
        self._config.attributes["connection"] = connection
        return self._config

    @cached_property
    def _scripts(self) -> "ScriptDirectory":
        from alembic.script import ScriptDirectory

        return ScriptDirectory.from_config(self._config)

    def revision(self, connection: Connection) -> str | None:
        """The revision of the database. Raises MigrationRefused if the database does not support this version."""
        if not inspect(connection).has_table(_REVISION_TABLE):
            return None
        revision: str | None = connection.scalar(_CURRENT_REVISION)
        if self._is_unknown(revision) and not self._is_supported(connection, revision):
            raise MigrationRefused(
                f"the database is at revision {revision}, which this version does not know: "
                "it was migrated by a newer version that no longer supports this one, or belongs to another service"
            )
        return revision

    def _is_unknown(self, revision: str | None) -> bool:
        return revision is not None and revision not in self._named["revision"]

    def _is_supported(self, connection: Connection, revision: str | None) -> bool:
        """Whether the database, at a revision that this version does not know, supports this version."""
        floor = compatibility.find_floor(connection)
        if revision is None or floor is None or floor not in self._named["revision"]:
            return False
        compatibility.report_newer(revision, floor, self.head)
        return True

    def _record_floor(self, connection: Connection) -> None:
        revision = connection.scalar(_CURRENT_REVISION) or "base"
        compatibility.record_floor(connection, [*self._scripts.iterate_revisions(revision, "base")][::-1])

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection without the lock."""
        options = {"timeout": _LOCK_TIMEOUT} if self._is_sqlite else {"connect_timeout": 10}
        engine = create_engine(self._url, poolclass=NullPool, connect_args=options)
        with readable_errors(), engine.connect() as connection:
            if not self._is_sqlite:
                _require_utf8(connection)
            yield connection

    def hold_off(self, connection: Connection) -> None:
        """Let migrations on PostgreSQL wait until the connection, which is in no transaction, is closed.

        They wait before they lock a table, so requests go on.
        """
        with readable_errors():
            connection.execute(text("SELECT pg_advisory_lock_shared(:key)"), {"key": _ADVISORY_LOCK})
            connection.rollback()  # The lock stays: it belongs to the connection.

    @contextmanager
    def locked(self) -> Iterator[Connection]:
        """A transaction that keeps others from migrating. Raises MigrationRefused if the database is unavailable."""
        with readable_errors(), self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        url = make_url(self._url)
        if not self._is_sqlite:
            with create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10}).begin() as connection:
                _require_utf8(connection)
                connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
                yield connection
            return

        self._prepare_file()
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _LOCK_TIMEOUT})

        @event.listens_for(engine, "connect")
        def prepare(connection: object, _record: object) -> None:
            connection.isolation_level = None  # type: ignore[attr-defined]
            # A migration that re-creates a table would empty its child tables by cascade. The pragma has no effect
            # inside a transaction, so it is set before; the check before the commit compensates for it.
            connection.execute("PRAGMA foreign_keys = OFF")  # type: ignore[attr-defined]
            connection.execute(f"PRAGMA {SECURE_DELETE}")  # type: ignore[attr-defined]

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        with engine.begin() as connection:
            yield connection

    def _prepare_file(self) -> None:
        """Create the file of a SQLite database, and its folder, unless they exist."""
        if self._is_sqlite:
            try:
                make_folder(self._url)
            except OSError as error:
                problem = f"the folder of the database can't be created: {error.filename}: {error.strerror}"
                raise MigrationRefused(problem) from error
            _require_writable_folder(make_url(self._url))
            make_file(self._url)


def _require_utf8(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    encoding = driver.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise MigrationRefused(f"the database has the encoding {encoding}: create it with ENCODING 'UTF8'")


def _require_writable_folder(url: URL) -> None:
    folder = Path(url.database or "").absolute().parent
    if not os.access(folder, os.W_OK):
        user = f"user {os.getuid()}" if sys.platform != "win32" else "this user"
        raise MigrationRefused(f"{folder} is not writable for {user}: change its permissions, or set DATA_DIR")


@contextmanager
def _tables_intact(connection: Connection) -> Iterator[None]:
    """Make sure that tables that are re-created on SQLite do not reuse ids, and that no row refers to a lost one."""
    if connection.dialect.name != "sqlite":
        yield
        return
    used = _used_ids(connection)
    yield
    _restore_used_ids(connection, used)
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise MigrationRefused(f"{len(broken)} rows would refer to rows that no longer exist")


def _used_ids(connection: Connection) -> dict[str, int]:
    """The largest id ever used by each SQLite table with AUTOINCREMENT."""
    if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").first():
        return {}
    return {row.name: row.seq for row in connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")}


def _restore_used_ids(connection: Connection, used: dict[str, int]) -> None:
    """Make sure that a re-created table does not reuse ids."""
    current = _used_ids(connection)
    for name, largest in used.items():
        query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
        definition = connection.exec_driver_sql(query, (name,)).scalar()
        if definition is None:
            continue
        if "AUTOINCREMENT" not in definition.upper():
            raise MigrationRefused(
                f"the table {name} would reuse ids: "
                'pass batch_alter_table table_kwargs={"sqlite_autoincrement": True}'
            )
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
        connection.exec_driver_sql(
            "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, max(largest, current.get(name, 0)))
        )
