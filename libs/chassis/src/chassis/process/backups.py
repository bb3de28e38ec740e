"""The commands of a service that back its database up and restore it."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from chassis import logs
from chassis.database.backup import ID_GAP, Backups, Rows
from chassis.database.migrations import Migrations
from chassis.database.refusals import MigrationRefused
from chassis.database.sqlstates import first_line
from chassis.process.server import Command
from chassis.settings import ServiceSettings

MAX_DIGITS = 15
"""Of an id gap: many such gaps fit into an id."""

S = TypeVar("S", bound=ServiceSettings)


def backup_commands(migrations_of: Callable[[S], Migrations], revoked: Sequence[str] = ()) -> list[Command[S]]:
    """The commands `backup`, `restore` and `after-restore` of a service.

    Its metadata needs the table of `chassis.database.models.backups_table`.

    :param revoked: tables whose rows must not outlive a restore
    """

    def backups(settings: S) -> Backups:
        return Backups(settings.service, settings.database_url, migrations_of(settings), revoked)

    def audit(settings: S, event: str, **fields: object) -> None:
        logs.audit(settings.service.replace("-", "_"), event, account_id=None, **fields)

    def back_up(settings: S, arguments: argparse.Namespace) -> None:
        rows = backups(settings).write(arguments.file, overwrite=arguments.overwrite)
        audit(settings, "database backed up")
        try:
            backups(settings).record()
        except (MigrationRefused, DBAPIError) as error:
            # Such as a standby, which can be backed up, but not written to.
            reason = first_line(error) if isinstance(error, DBAPIError) else str(error)
            logs.get("chassis.backups").warning("the time of this backup can't be stored", reason=reason)
        print(f"Wrote {arguments.file}: {_listed(rows)}.")

    def restore(settings: S, arguments: argparse.Namespace) -> None:
        file, gap = arguments.file, arguments.id_gap
        header, rows = backups(settings).restore(file, overwrite=arguments.overwrite, id_gap=gap)
        audit(settings, "database restored", backup_of=header.made_at, id_gap=gap)
        print(f"Restored {arguments.file}: {_listed(rows)}.")

    def after_restore(settings: S, arguments: argparse.Namespace) -> None:
        backups(settings).after_restore(id_gap=arguments.id_gap)
        audit(settings, "database restored", backup_of=None, id_gap=arguments.id_gap)
        print("The service may start.")

    return [
        Command("backup", "write all rows of the database to a file, while the service may run", back_up, _add_file),
        Command("restore", "restore a backup", restore, _add_file_and_gap, creates_database=True),
        Command("after-restore", "make a database safe that was restored by other means", after_restore, _add_gap),
    ]


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the file of the backup")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")


def _add_gap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--id-gap",
        metavar="N",
        type=_number,
        default=ID_GAP,
        help=f"leave out this many ids, more than were issued since the backup (default: {ID_GAP})",
    )


def _add_file_and_gap(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    _add_gap(parser)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise argparse.ArgumentTypeError(f"must be a whole number of at most {MAX_DIGITS} digits")
    return int(text)


def _listed(rows: Rows) -> str:
    return ", ".join(f"{number} {name}" for name, number in rows.items())
