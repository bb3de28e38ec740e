"""What an operator does on the command line of the product service: `python -m product_service import FILE`."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from auth_client.caller import Caller
from chassis.errors import FieldError, Invalid
from chassis.ids import LARGEST_ID
from chassis.process.server import Command
from product_service.files.formats import FORMATS, Format
from product_service.main import Services
from product_service.services.import_export import OUTCOMES, PIECE, ImportReport
from product_service.settings import Settings


def _import(settings: Settings, arguments: argparse.Namespace) -> None:
    file: Path = arguments.file
    owner = Caller(arguments.owner, username="", roles=())
    name = arguments.format or file.suffix.removeprefix(".").lower()
    if name not in FORMATS:
        raise Invalid([FieldError(None, f"{file}: the name does not tell the format; say it with --format.")])
    # What cannot be shown is shown otherwise: the import is done, whatever the terminal knows.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    report = ImportReport()
    try:
        with (
            file.open("rb") as content,
            # Shown only at a terminal.
            tqdm(total=file.stat().st_size, unit="B", unit_scale=True, disable=None, leave=False) as bar,
        ):
            asyncio.run(_run(settings, content, FORMATS[name], owner, report, bar.update, dry_run=arguments.dry_run))
    finally:
        # Also what was done before the import ended early.
        for refused in report.errors:
            print(f"line {refused.line}: {refused.detail}")
        if report.lines:
            counts = (f"{getattr(report, outcome)} {outcome}" for outcome in OUTCOMES)
            print(f"{', '.join(counts)}{'; nothing was changed' if arguments.dry_run else ''}.")
    if report.refused:
        raise SystemExit(1)


async def _run(
    settings: Settings,
    content: BinaryIO,
    form: Format,
    owner: Caller,
    report: ImportReport,
    tell: Callable[[int], object],
    *,
    dry_run: bool,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        while piece := content.read(PIECE):
            yield piece
            tell(len(piece))

    services = Services(settings)
    try:
        await services.imports.run(pieces(), form, owner, report, dry_run=dry_run)
    finally:
        services.close()


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a file as the export writes it, in UTF-8")
    parser.add_argument(
        "--format", choices=sorted(FORMATS), help="what the file is, if that is not the ending of its name"
    )
    parser.add_argument(
        "--owner", metavar="ID", type=_account_id, default=1, help="the account that does it, and owns what is new (1)"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and tell what would be done")


def _account_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= LARGEST_ID):
        raise argparse.ArgumentTypeError("the id of an account is a whole number from 1 on")
    return int(text)


COMMANDS = [Command("import", "create and change products as a file says", _import, _import_arguments)]
