"""Migrations with Alembic, under a lock: whoever starts first migrates, and everybody else finds it done.

A service keeps its migrations in its own package, so that an installed wheel can migrate its database. The
environment that runs them is the same for every service: `alembic_environment`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

# One number for every service: each has a database of its own, and the lock belongs to the database.
_ADVISORY_LOCK = 7_305_218_433_005_317_116
_LOCK_TIMEOUT = 60  # seconds that a process waits for another one's migration


class MigrationRefused(Exception):
    """The database cannot be migrated by this version of the service; the message is one line for people."""


class Migrations:
    """The migrations of one service, on one database."""

    def __init__(self, folder: Path, metadata: MetaData, database_url: str) -> None:
        """
        :param folder: where the service's migrations are
        :param metadata: of the service's models
        :param database_url: as `chassis.database_url.normalise` returns it
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
        self._config.attributes["metadata"] = metadata
        self._scripts = ScriptDirectory.from_config(self._config)
        self._url = database_url

    @property
    def head(self) -> str | None:
        """The revision that this version of the service works with."""
        return self._scripts.get_current_head()

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
        number = f"{len(list(self._scripts.walk_revisions())) + 1:04}"
        with self._locked():
            script = command.revision(self._config, message, autogenerate=True, rev_id=number)
        if script is None or isinstance(script, list):
            raise MigrationRefused("no migration was written")
        return Path(script.path)

    def is_current(self, session: Session) -> bool:
        """Whether the database is at the revision that this version works with."""
        try:
            revision: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
        except DBAPIError:
            # Without the table the database was never migrated; one that is away is told apart by asking it.
            session.rollback()
            session.execute(text("SELECT 1"))
            return False
        return revision == self.head

    def _revision(self, connection: Connection) -> str | None:
        revision = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in self._scripts.walk_revisions()}
        if revision is not None and revision not in known:
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
        except OperationalError as error:
            raise MigrationRefused(f"the database cannot be reached or is locked: {_first_line(error)}") from error

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        url = make_url(self._url)
        if url.get_backend_name() != "sqlite":
            engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
            with engine.begin() as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
                yield connection
            return

        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
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
            yield connection
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise MigrationRefused(f"{len(broken)} rows would be left without the row they refer to")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
