"""Reads the settings of a process, and says what is wrong with them, one line per error and warning, without values."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dotenv.parser import Original, parse_stream
from pydantic import ValidationError
from pydantic_settings import SettingsError

from chassis.settings import ServiceSettings, UnusableSettings

SECRETS = Path("/run/secrets")
"""Where Docker mounts secrets: a file for each setting, such as `secret_key`."""

S = TypeVar("S", bound=ServiceSettings)


def load(settings_class: type[S]) -> S:
    """Read the settings of this process. On errors, print one line for each and exit with status 2.

    Every error is printed at once, with the warnings of a start in production.
    """
    try:
        _require_readable_sources(settings_class)
        return _read(settings_class)
    except ValidationError as error:
        reasons, warnings = _findings(settings_class, error)
        fail(*reasons, warnings=warnings)
    except UnicodeDecodeError:
        fail(".env: is not UTF-8 text")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    except SettingsError as error:
        reason = error.__cause__
        fail(f"{reason.filename}: {reason.strerror}" if isinstance(reason, OSError) else f"{error}: {reason}")


def _require_readable_sources(settings_class: type[ServiceSettings]) -> None:
    """Exit if pydantic-settings would ignore a line of `.env` or a secret."""
    file = Path(".env")
    if file.is_file():
        with file.open(encoding="utf-8") as lines:
            broken = [_line_of(each.original) for each in parse_stream(lines) if each.error]
        if broken:
            fail(*(f".env: line {line} is not like NAME=value" for line in broken))
    folders = [SECRETS / name for name in settings_class.model_fields if (SECRETS / name).is_dir()]
    if folders:
        fail(*(f"{folder} is a folder, and must be a file" for folder in folders))


def _line_of(original: Original) -> int:
    blank = len(original.string) - len(original.string.lstrip())
    return original.line + original.string[:blank].count("\n")


def _read(settings_class: type[S], **values: Any) -> S:
    # pydantic-settings warns of a missing folder.
    return settings_class(_secrets_dir=SECRETS if SECRETS.is_dir() else None, **values)


def fail(*lines: str, warnings: Sequence[str] = ()) -> NoReturn:
    """Exit with status 2 before the service has started, printing one line per warning and per error."""
    for line in warnings:
        print(f"warning: {line}", file=sys.stderr)
    for line in lines:
        print(f"cannot start: {line}", file=sys.stderr)
    raise SystemExit(2)


def as_markdown(settings_class: type[ServiceSettings]) -> str:
    """The settings as a table: variable, default, description."""
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in settings_class.model_fields.items():
        shown = ",".join(field.default) if isinstance(field.default, list) else field.default
        default = "" if shown in (None, "", {}) else f"`{shown}`"
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def _findings(settings_class: type[ServiceSettings], error: ValidationError) -> tuple[list[str], list[str]]:
    """Everything that is wrong with the settings of this process, and what is risky about them."""
    problems = error.errors()
    errors = [line for each in problems for line in _lines(each["loc"], each["msg"])]
    invalid = {
        str(each["loc"][0]): settings_class.model_fields[str(each["loc"][0])] for each in problems if each["loc"]
    }
    if not invalid:
        unusable = problems[0].get("ctx", {}).get("error")
        return errors, [*unusable.warnings] if isinstance(unusable, UnusableSettings) else []
    if any(field.is_required() for field in invalid.values()):
        return errors, []
    # The other settings can only be checked together with valid values.
    try:
        settings = _read(settings_class, **{name: field.get_default() for name, field in invalid.items()})
    except ValidationError as error_of_others:
        reasons, warnings = _findings(settings_class, error_of_others)
    else:
        reasons, warnings = [], settings.risky() if settings.environment == "production" else []

    names = {name.upper() for name in invalid}

    def is_about_others(sentence: str) -> bool:
        return names.isdisjoint(re.findall("[A-Z_]+", sentence))

    return errors + list(filter(is_about_others, reasons)), list(filter(is_about_others, warnings))


def _lines(location: tuple[int | str, ...], message: str) -> list[str]:
    message = message.removeprefix("Value error, ")
    return [f"{str(location[0]).upper()}: {message}"] if location else message.split("\n")
