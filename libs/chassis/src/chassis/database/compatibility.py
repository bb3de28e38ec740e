"""The floor of a database: the oldest revision whose code can use it (docs/decisions/0040).

Code that knows the floor runs on a database whose own revision it does not know, during a rolling upgrade or after a
rollback. A contracting migration raises the floor: it sets `floor`, beside `revision`. The floor is kept by
`chassis.database.migrations`, not by a migration, which older code would not know.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect

from chassis import logs

if TYPE_CHECKING:
    from alembic.script import Script

_TABLE = Table("schema_compatibility", MetaData(), Column("floor", String(32), primary_key=True))
"""Has one row."""

TABLE_NAME = _TABLE.name


def find_floor(connection: Connection) -> str | None:
    """The floor; None for a database that was only migrated by versions without floors."""
    if not inspect(connection).has_table(TABLE_NAME):
        return None
    floor: str | None = connection.scalar(_TABLE.select())
    return floor


def record_floor(connection: Connection, applied: Sequence["Script"]) -> None:
    """Store the latest of the floors of these migrations, or else the first revision.

    :param applied: all migrations of the database, oldest first
    """
    if not applied:
        _TABLE.drop(connection, checkfirst=True)
        return
    order = [script.revision for script in applied]
    floor = max((getattr(script.module, "floor", order[0]) for script in applied), key=order.index)
    _TABLE.create(connection, checkfirst=True)
    connection.execute(_TABLE.delete())
    connection.execute(_TABLE.insert().values(floor=floor))


@cache
def report_newer(revision: str, floor: str, head: str | None) -> None:
    """Log that the database is newer than the code, once in each process."""
    logs.get("chassis.migrations").warning(
        "database is newer than this version, and supports it", revision=revision, floor=floor, head=head
    )
