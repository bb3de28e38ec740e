"""Migrations with Alembic, under a lock: whoever starts first migrates, and everybody else finds it done.

A service keeps its migrations in its own package, so that an installed wheel can migrate its database. The
environment that runs them is the same for every service: `alembic_environment`.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg2.errorcodes import INSUFFICIENT_PRIVILEGE
from sqlalchemy import Column, Connection, MetaData, NullPool, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from chassis.database.engines import make_file, make_folder

# One number for every service: each has a database of its own, and the lock belongs to the database.
_ADVISORY_LOCK = 7_305_218_433_005_317_116
_LOCK_TIMEOUT = 60  # seconds that a process waits for another one's migration


def _same_default(_: object, __: object, column: Column[Any], *___: object) -> Literal[False] | None:
    """SQLite has no identity columns, so that Alembic would find each one different; all else is its own affair."""
    return False if column.identity is not None else None


class MigrationRefused(Exception):
    """The database cannot be migrated by this version of the service; the message is one line for people."""


class Migrations:
    """The migrations of one service, on one database."""

    def __init__(
        self, folder: Path, metadata: MetaData, database_url: str, made_by_migrations: Collection[str] = ()
    ) -> None:
        """
        :param folder: where the service's migrations are, in its package
        :param metadata: of the service's models
        :param database_url: as `chassis.database.url.normalise` returns it
        :param made_by_migrations: names of tables, columns and indexes that no model has, because only one of the
            databases knows such things
        """
        self._config = Config()
        for option, value in (
            ("script_location", str(Path(__file__).parent / "alembic_environment")),
            ("version_locations", str(folder)),
            ("path_separator", "newline"),
            ("file_template", "%(rev)s_%(slug)s"),
        ):
            # A percent sign is the start of an interpolation for the parser behind it.
            self._config.set_main_option(option, value.replace("%", "%%"))
        self._is_sqlite = make_url(database_url).get_backend_name() == "sqlite"
        # What Alembic looks at when it compares the models with the database.
        self._comparison: dict[str, Any] = {
            "compare_type": True,
            "compare_server_default": _same_default if self._is_sqlite else True,
            "include_name": lambda name, _kind, _parents: name not in made_by_migrations,
        }
        self._config.attributes.update(metadata=metadata, comparison=self._comparison)
        self._scripts = ScriptDirectory.from_config(self._config)
        self._service = folder.parent.name
        self._metadata = metadata
        self._url = database_url

    @property
    def head(self) -> str | None:
        """The revision that this version of the service works with."""
        return self._scripts.get_current_head()

    def revisions(self) -> list[str]:
        """All revisions that this version of the service knows, the oldest first."""
        return [script.revision for script in reversed(list(self._scripts.walk_revisions()))]

    def upgrade(self, revision: str = "head") -> bool:
        """Bring the database to `revision` in one transaction, and say whether there was anything to do.

        Raises MigrationRefused for a database of a newer version, or of another service.
        """
        with self._locked() as connection:
            before = self._revision(connection)
            command.upgrade(self._config, revision)
            return before != self._revision(connection)

    def downgrade(self, revision: str) -> None:
        """Take the database back to `revision`, `base` for an empty one, in one transaction."""
        with self._locked():
            command.downgrade(self._config, revision)

    def write_revision(self, message: str) -> Path:
        """Write a new migration, numbered on, for what the models have and the migrated database has not."""
        # With the service's name in it, no revision of one service is taken for one of the other.
        revision = f"{self._service}_{len(self.revisions()) + 1:04}"
        with self._locked():
            script = command.revision(self._config, message, autogenerate=True, rev_id=revision)
        if script is None or isinstance(script, list):
            raise MigrationRefused("no migration was written")
        return Path(script.path)

    def differences(self) -> list[Any]:
        """What Alembic finds different between the models and the database as it is."""
        with self._locked() as connection:
            context = MigrationContext.configure(connection, opts=self._comparison)
            return list(compare_metadata(context, self._metadata))

    def is_current(self, session: Session) -> bool:
        """Whether the database is at the revision that this version works with."""
        try:
            revision: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
        except DBAPIError:
            # Without the table the database was never migrated; where it is there, or cannot be asked for, it was
            # something else that failed.
            session.rollback()
            if inspect(session.connection()).has_table("alembic_version"):
                raise
            return False
        return revision == self.head

    def _revision(self, connection: Connection) -> str | None:
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision is not None and revision not in self.revisions():
            raise MigrationRefused(
                f"the database is at revision {revision}, which this version does not know: "
                "it was migrated by a newer version, or belongs to another service"
            )
        return revision

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        try:
            with self._transaction() as connection:
                self._config.attributes["connection"] = connection
                yield connection
        except DatabaseError as error:
            if getattr(error.orig, "pgcode", None) == INSUFFICIENT_PRIVILEGE:
                raise MigrationRefused(f"the database does not allow it: {_first_line(error)}") from error
            # The plain class is what SQLite has for a file that is damaged, or no database at all.
            if not isinstance(error, OperationalError) and type(error) is not DatabaseError:
                raise
            raise MigrationRefused(f"the database cannot be reached or is locked: {_first_line(error)}") from error
        except OSError as error:
            raise MigrationRefused(f"the folder of the database cannot be made: {error.strerror}") from error

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        url = make_url(self._url)
        if not self._is_sqlite:
            engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
            with engine.begin() as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
                yield connection
            return

        make_folder(self._url)
        make_file(self._url)
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _LOCK_TIMEOUT})

        @event.listens_for(engine, "connect")
        def prepare(connection: object, _record: object) -> None:
            connection.isolation_level = None  # type: ignore[attr-defined]
            # A migration that makes a table anew would empty its child tables by cascade. The pragma has no effect
            # inside a transaction, so it has to come before; the check before the commit makes up for it.
            connection.execute("PRAGMA foreign_keys = OFF")  # type: ignore[attr-defined]

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        with engine.begin() as connection:
            used = _used_ids(connection)
            yield connection
            _keep_used(connection, used)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise MigrationRefused(f"{len(broken)} rows would be left without the row they refer to")


def _used_ids(connection: Connection) -> dict[str, int]:
    """The largest id that each SQLite table with AUTOINCREMENT ever had."""
    if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").first():
        return {}
    return {row.name: row.seq for row in connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")}


def _keep_used(connection: Connection, used: dict[str, int]) -> None:
    """See to it that a table which a migration made anew gives no id again that it gave before."""
    now = _used_ids(connection)
    for name, largest in used.items():
        query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
        made_with = connection.exec_driver_sql(query, (name,)).scalar()
        if made_with is None:
            continue
        if "AUTOINCREMENT" not in made_with.upper():
            raise MigrationRefused(
                f"the table {name} would use ids again: "
                'batch_alter_table needs table_kwargs={"sqlite_autoincrement": True}'
            )
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
        connection.exec_driver_sql(
            "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, max(largest, now.get(name, 0)))
        )


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
