"""Backups of one service's database: a file with all its rows, which either database can restore.

The file is compressed text (xz) with a JSON document per line: a header, then batches of rows. xz adds a checksum, and
notices a missing end.

A backup reads one snapshot of the database while others write. A restore is one transaction: either everything is
restored or nothing has changed. docs/decisions/0041 has the reasons.
"""

import json
import lzma
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from chassis.database import bulk
from chassis.database.engines import Timeouts, postgresql_engine, sqlite_engine
from chassis.database.migrations import Migrations
from chassis.database.models import BACKUPS, UtcDateTime
from chassis.database.refusals import readable_errors
from chassis.database.sqlstates import SqlState, first_line, has_state
from chassis.errors import DomainError

FORMAT = 1
"""The version of the file format. A restore refuses others."""

ID_GAP = 1_000_000_000
"""How many ids a restore leaves out by default: more than were issued since the backup."""

BATCH = 500
"""Rows in one line of the file, and in memory at the same time."""

PIECE = 2**20
"""Bytes of a backup to read or to decompress at a time."""

ATTEMPTS = 10
"""How often a restore tries to lock the tables, if writers keep it from doing so by a deadlock."""

Rows = Mapping[str, int]
"""Numbers by the name of their table."""

# A day for a table, and a minute to wait for a migration.
_TIMEOUTS = Timeouts(pool_timeout=60, statement_timeout=86_400)

# The default preset takes many times as long.
_COMPRESSION: dict[str, Any] = {"check": lzma.CHECK_SHA256, "preset": 1}


class BackupRefused(DomainError):
    """A backup can't be written or restored; nothing has changed."""

    code = "backup-refused"


@dataclass(frozen=True)
class Header:
    """The first line of a backup."""

    service: str
    revision: str
    """Of the database's schema."""
    made_at: str
    last_ids: Rows
    """The largest id that each table has ever used."""
    format: int = FORMAT


class Backups:
    """Writes and restores the backups of one service's database. Methods raise BackupRefused and MigrationRefused."""

    def __init__(self, service: str, database_url: str, migrations: Migrations, left_out: Sequence[str] = ()) -> None:
        """
        :param database_url: as `chassis.database.url.normalise` returns it
        :param left_out: tables whose rows must not outlive a restore; a backup does not contain them
        """
        self._service = service
        self._url = database_url
        self._is_sqlite = sa.make_url(database_url).get_backend_name() == "sqlite"
        self._migrations = migrations
        self._tables = migrations.metadata.sorted_tables
        self._left_out = {BACKUPS, *left_out}
        self._kept = [table.name for table in self._tables if table.name not in self._left_out]

    def write(self, file: Path, *, overwrite: bool) -> Rows:
        """Write a backup; return the number of rows of each table. Until it is complete, it has another name."""
        _require_new(file, overwrite=overwrite)
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".partial", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as raw:
                with self._snapshot() as connection, lzma.LZMAFile(raw, "w", **_COMPRESSION) as lines:
                    rows = self._dump(connection, lines)
                raw.flush()
                os.fsync(descriptor)
            _require_new(file, overwrite=overwrite)
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)
        return rows

    def record(self) -> None:
        """Store the present time as that of the last backup."""
        table = self._migrations.metadata.tables[BACKUPS]
        with self._migrations.locked() as connection:
            connection.execute(sa.delete(table))
            connection.execute(sa.insert(table).values(finished_at=datetime.now(UTC)))

    def restore(self, file: Path, *, overwrite: bool, id_gap: int = ID_GAP) -> tuple[Header, Rows]:
        """Restore a backup into an empty database; return its header and the number of rows of each table.

        The database may have no tables yet. Afterwards, it has the latest revision.

        :param overwrite: replace the rows that the database has
        :param id_gap: new rows get ids that are larger than all known ones by more than this
        """
        with file.open("rb") as raw:
            header = self._verify(file, raw)
            raw.seek(0)
            with self._migrations.locked() as connection, lzma.LZMAFile(raw) as lines:
                used = self._clear(connection, overwrite=overwrite)
                self._migrations.move_to(connection, header.revision)
                rows = self._load(connection, lines)
                self._migrations.move_to(connection)
                self._finish(connection, [used, header.last_ids], id_gap)
        return header, rows

    def after_restore(self, *, id_gap: int = ID_GAP) -> None:
        """Do what `restore` does beyond restoring rows, on a database that was restored by other means."""
        with self._migrations.locked() as connection:
            self._require_head(connection)
            self._finish(connection, [], id_gap)

    @contextmanager
    def _snapshot(self) -> Iterator[sa.Connection]:
        """A connection that sees the database as it is now, whatever others write meanwhile."""
        engine = (sqlite_engine if self._is_sqlite else postgresql_engine)(self._url, 1, _TIMEOUTS, writes=False)
        try:
            with readable_errors(), engine.connect() as connection:
                if self._is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                else:
                    self._migrations.hold_off(connection)
                    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                    # Before the snapshot exists: it would not show the rows of a table that is altered after it.
                    self._lock(connection, "ACCESS SHARE")
                yield connection
        finally:
            engine.dispose()

    def _lock(self, connection: sa.Connection, mode: str) -> None:
        """Lock all tables on PostgreSQL until the end of the transaction."""
        names = ", ".join(table.name for table in self._tables)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN {mode} MODE")

    def _lock_out_writers(self, connection: sa.Connection) -> None:
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                with connection.begin_nested():
                    self._lock(connection, "ACCESS EXCLUSIVE")
            except DBAPIError as error:
                # Writers lock the tables in an order of their own.
                if not attempts_left or not has_state(error.orig, SqlState.DEADLOCK_DETECTED):
                    raise
            else:
                return

    def _require_head(self, connection: sa.Connection) -> str:
        revision = self._migrations.revision(connection)
        if revision is None or revision != self._migrations.head:
            known = revision is None or revision in self._migrations.revisions()
            remedy = "migrate it" if known else "use the version that migrated it, or an empty database"
            raise BackupRefused(
                f"The database is at revision {revision}, and this version of the service at {self._migrations.head}: "
                f"{remedy}."
            )
        return revision

    def _dump(self, connection: sa.Connection, lines: lzma.LZMAFile) -> Rows:
        def write(document: object) -> None:
            text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=datetime.isoformat)
            lines.write(f"{text}\n".encode())

        revision = self._require_head(connection)
        write(asdict(Header(self._service, revision, datetime.now(UTC).isoformat(), self._last_ids(connection))))
        counts = {}
        for name in self._kept:
            table = _reflect(connection, name)
            columns = [column for column in table.c if column.computed is None]
            statement = sa.select(*columns).order_by(*table.primary_key).execution_options(yield_per=BATCH)
            counts[name] = 0
            for rows in connection.execute(statement).partitions():
                write({"table": name, "columns": [each.name for each in columns], "rows": [[*row] for row in rows]})
                counts[name] += len(rows)
        return counts

    def _verify(self, file: Path, raw: BinaryIO) -> Header:
        """Read all of the file, so that no row of a damaged one is restored."""
        content = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        first = b""
        try:
            while not content.eof:
                compressed = raw.read(PIECE) if content.needs_input else b""
                if content.needs_input and not compressed:
                    raise EOFError("its end is missing")
                piece = content.decompress(compressed, PIECE)
                if b"\n" not in first and len(first) < PIECE:
                    first += piece
            if content.unused_data or raw.read(1):
                raise EOFError("there is data after its end")
            header = Header(**json.loads(first.partition(b"\n")[0]))
        except (lzma.LZMAError, EOFError) as error:
            raise BackupRefused(f"{file} is damaged, incomplete or not a backup: {error}.") from None
        except (ValueError, TypeError):
            raise BackupRefused(f"{file} is not a backup, or of a newer version.") from None
        if header.service != self._service:
            raise BackupRefused(f"{file} is a backup of {header.service}, not of {self._service}.")
        if header.format != FORMAT or header.revision not in self._migrations.revisions():
            raise BackupRefused(
                f"{file} is a backup of a newer version (revision {header.revision}, format {header.format}): "
                "restore it with that version."
            )
        return header

    def _clear(self, connection: sa.Connection, *, overwrite: bool) -> Rows:
        """Delete all rows; return the largest ids that the tables have ever had."""
        if self._migrations.revision(connection) is None:
            return {}
        self._require_head(connection)
        if not self._is_sqlite:
            # A service that runs must not write before all rows are there.
            self._lock_out_writers(connection)
        kept = [table for table in self._tables if table.name in self._kept]
        filled = [table.name for table in kept if connection.scalar(sa.select(sa.exists().select_from(table)))]
        if filled and not overwrite:
            raise BackupRefused(f"The database has rows ({', '.join(filled)}). --overwrite replaces them.")
        used = self._last_ids(connection)
        for table in reversed(self._tables):
            connection.execute(sa.delete(table))
        return used

    def _load(self, connection: sa.Connection, lines: lzma.LZMAFile) -> Rows:
        """Insert all rows into the tables of the backup's revision."""
        session = Session(connection)
        counts = dict.fromkeys(self._kept, 0)
        table = None
        next(lines)
        for batch in map(json.loads, lines):
            if table is None or table.name != batch["table"]:
                table = _reflect(connection, batch["table"])
            times = [name for name in batch["columns"] if isinstance(table.c[name].type, UtcDateTime)]
            rows = [dict(zip(batch["columns"], row, strict=True)) for row in batch["rows"]]
            for row in rows:
                row.update({name: datetime.fromisoformat(row[name]) for name in times if row[name]})
            try:
                bulk.insert(session, table, rows, {})
            except sa.exc.DBAPIError as error:
                # Its other lines may contain values, such as password hashes.
                raise BackupRefused(f"The backup can't be restored: {first_line(error)}") from None
            counts[table.name] = counts.get(table.name, 0) + len(rows)
        return counts

    def _finish(self, connection: sa.Connection, used: Sequence[Rows], id_gap: int) -> None:
        """Delete what must not outlive a restore, and let new ids be larger than all that may have been issued."""
        for table in self._tables:
            if table.name in self._left_out:
                connection.execute(sa.delete(table))
        for name, last in self._last_ids(connection).items():
            value = max(last, *(each.get(name, 0) for each in used), 0) + id_gap
            if value == 0:
                continue  # It has never had an id. PostgreSQL rejects 0.
            if self._is_sqlite:
                connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": name})
                statement = "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :value)"
            else:
                statement = "SELECT setval(pg_get_serial_sequence(:name, 'id'), :value)"
            connection.execute(sa.text(statement), {"name": name, "value": value})

    def _last_ids(self, connection: sa.Connection) -> Rows:
        """The largest id that each table has ever had, by its name."""
        if self._is_sqlite:
            statement = "SELECT seq FROM sqlite_sequence WHERE name = :name"
        else:
            statement = "SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, 'id'))"
        last_ids = {}
        for table in self._tables:
            if "id" in table.c:
                stored = connection.scalar(sa.select(sa.func.max(table.c.id)))
                last_ids[table.name] = max(
                    connection.scalar(sa.text(statement), {"name": table.name}) or 0, stored or 0
                )
        return last_ids


def last_finished(database_url: str) -> float | None:
    """When the last backup was finished, in seconds since 1970; 0 without one. None if the database does not answer."""
    make = sqlite_engine if sa.make_url(database_url).get_backend_name() == "sqlite" else postgresql_engine
    engine = make(database_url, 1, Timeouts(pool_timeout=1, statement_timeout=1), writes=False)
    try:
        with engine.connect() as connection:
            column: sa.ColumnClause[datetime] = sa.column("finished_at", UtcDateTime())
            finished_at = connection.scalar(sa.select(column).select_from(sa.table(BACKUPS)))
            return finished_at.timestamp() if finished_at else 0.0
    except DBAPIError:
        return None
    finally:
        engine.dispose()


def _require_new(file: Path, *, overwrite: bool) -> None:
    if file.exists() and not overwrite:
        raise BackupRefused(f"{file} exists. --overwrite replaces it.")


def _reflect(connection: sa.Connection, name: str) -> sa.Table:
    """A table as it is in the database, with column types whose values are the same on both."""
    metadata = sa.MetaData()

    @sa.event.listens_for(metadata, "column_reflect")
    def use_common_type(_inspector: object, _table: object, column: dict[str, Any]) -> None:
        if isinstance(column["type"], sa.DateTime):
            column["type"] = UtcDateTime()
        elif isinstance(column["type"], sa.JSON):
            column["type"] = sa.JSON(none_as_null=True)

    return sa.Table(name, metadata, autoload_with=connection, resolve_fks=False)
