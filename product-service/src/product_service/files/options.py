"""How to read and write files, and what was found out about one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

CSV_OPTIONS = ("delimiter", "decimal", "allow_scientific_sku")
"""The fields of `ReadOptions` that other formats refuse."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """The fields of columns with another name, by the name in the file."""
    ignore_unknown: bool = False
    """Whether to skip columns that are no field of a product."""
    delimiter: str | None = None
    """What separates the cells of CSV, a key of `csv.DELIMITERS`; None to detect it."""
    decimal: str | None = None
    """The decimal sign of CSV: a point or a comma; None to detect it."""
    allow_scientific_sku: bool = False
    """Whether a SKU in CSV may look like a number that a spreadsheet has rounded."""
    max_lines: float = math.inf
    max_blank_lines: float = math.inf


@dataclass
class Layout:
    """What a reader finds out about its file."""

    delimiter: str | None = None
    decimal: str | None = None
    ignored_columns: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class WriteOptions:
    """How to write a file."""

    include_id: bool = False
    bom: bool = False
    """Whether to begin CSV with a byte order mark, without which spreadsheets don't recognise UTF-8."""
    spreadsheet: bool = False
    """Whether to protect texts in CSV that a spreadsheet would change, such as leading zeros."""
