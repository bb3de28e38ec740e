"""Commands for operators: `python -m product_service import FILE`."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from tqdm import tqdm

from auth_client.caller import Caller
from chassis import logs
from chassis.errors import FieldError, Invalid
from chassis.http.query_parameters import Flag
from chassis.ids import LARGEST_ID
from chassis.process.backups import backup_commands
from chassis.process.server import Command
from chassis.validation import invalid
from product_service.api.import_query import ImportQuery
from product_service.composition import Services, migrations
from product_service.files.formats import FORMATS, Format
from product_service.services.import_export import CHUNK_SIZE, OUTCOMES, ImportOptions, ImportReport
from product_service.settings import Settings


def _import(settings: Settings, arguments: argparse.Namespace) -> None:
    file: Path = arguments.file
    owner = Caller(arguments.owner, username="", roles=())
    from_stdin = str(file) == "-"
    name = arguments.format or file.suffix.removeprefix(".").lower()
    if name not in FORMATS:
        problem = "standard input has no file extension" if from_stdin else f"{file}: unknown file extension"
        raise Invalid([FieldError(None, f"{problem}; set the format with --format.")])
    options = _options(arguments)
    # Escape characters that the terminal cannot encode, instead of failing after the import.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    report = ImportReport()
    try:
        with (
            nullcontext(sys.stdin.buffer) if from_stdin else file.open("rb") as content,
            # Standard input has no known size. None disables the bar unless stderr is a terminal.
            tqdm(
                total=None if from_stdin else file.stat().st_size,
                unit="B",
                unit_scale=True,
                disable=None,
                leave=False,
            ) as bar,
        ):
            asyncio.run(_run(settings, content, FORMATS[name], owner, report, bar.update, options))
    finally:
        # Even if the import was interrupted.
        _print(report, options)
    if report.refused:
        raise SystemExit(1)


def _print(report: ImportReport, options: ImportOptions) -> None:
    for error in report.errors:
        print(logs.for_terminal(f"line {error.line}: {error.detail}"))
    if not report.lines:
        return
    layout = report.file
    if layout.delimiter not in (None, ",") or layout.decimal == ",":
        print(f"cells are separated by {layout.delimiter}; the decimal sign is {layout.decimal or 'unknown'}")
    if layout.ignored_columns:
        print(f"ignored columns: {', '.join(map(repr, layout.ignored_columns))}")
    counts = (f"{getattr(report, outcome)} {outcome}" for outcome in OUTCOMES)
    print(f"{', '.join(counts)}{'; nothing was changed' if options.dry_run else ''}.")


async def _run(
    settings: Settings,
    content: BinaryIO,
    file_format: Format,
    owner: Caller,
    report: ImportReport,
    update_progress: Callable[[int], object],
    options: ImportOptions,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        while chunk := content.read(CHUNK_SIZE):
            yield chunk
            update_progress(len(chunk))

    services = Services(settings.model_copy(update={"max_products_per_account": sys.maxsize}))
    try:
        await services.imports.run(chunks(), file_format, owner, report, options)
    finally:
        services.close()


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a CSV or NDJSON file; - for standard input")
    parser.add_argument(
        "--format", choices=sorted(FORMATS), help="the file format, if the file extension does not say it"
    )
    parser.add_argument(
        "--owner", metavar="ID", type=_account_id, default=1, help="the account that owns new products (default: 1)"
    )
    for name, field in ImportQuery.model_fields.items():
        parser.add_argument(_option(name), help=field.description, **_arguments_of(field))


def _arguments_of(field: FieldInfo) -> dict[str, Any]:
    return {"action": "store_true"} if field.annotation == Flag | None else {"metavar": "VALUE"}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _options(arguments: argparse.Namespace) -> ImportOptions:
    """The options of the API's import have the same names and rules here. Raises Invalid."""
    given = {name: getattr(arguments, name, None) for name in ImportQuery.model_fields}
    try:
        return ImportQuery.model_validate({name: value for name, value in given.items() if value is not None}).options
    except ValidationError as error:
        errors = invalid(error).errors
        raise Invalid(
            [FieldError(None, f"{_option((each.pointer or '')[1:])}: {each.detail}") for each in errors]
        ) from None


def _account_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= LARGEST_ID):
        raise argparse.ArgumentTypeError("an account id is a positive whole number")
    return int(text)


COMMANDS = [
    Command("import", "create and change products from a file", _import, _import_arguments),
    *backup_commands(migrations),
]
