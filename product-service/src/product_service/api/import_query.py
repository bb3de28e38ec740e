"""The options of an import, for the API and for the command line. Imports no framework: commands start without one."""

import csv
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from chassis.http.query_parameters import Flag, QueryParameters
from product_service.files.columns import COLUMNS
from product_service.files.options import ReadOptions
from product_service.services.import_export import ImportOptions


def _parse_columns(text: object) -> object:
    """The fields by column, from a list of COLUMN:FIELD. It is one record of CSV, so that names may contain commas."""
    if not isinstance(text, str):
        return text
    # If a quotation mark is still open, the reader also takes the second line.
    reader = csv.reader([text, ""])
    try:
        pairs = [pair.rpartition(":") for pair in next(reader, [])]
    except csv.Error:
        pairs = []
    if reader.line_num > 1:
        raise ValueError("A quotation mark is missing at the end of a name")
    if not pairs or not all(column.strip() and separator for column, separator, _ in pairs):
        raise ValueError("Write pairs of a column and a field, like Variant SKU:sku,Title:name")
    columns = {column.strip(): field.strip() for column, _, field in pairs}
    if len(columns) < len(pairs):
        raise ValueError("A column is mapped twice")
    unknown = [field for field in columns.values() if field not in COLUMNS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: the fields are {', '.join(COLUMNS)}")
    return columns


Delimiter = Annotated[Literal[",", ";", "tab", "|"], BeforeValidator(lambda value: "tab" if value == "\t" else value)]


class ImportQuery(QueryParameters):
    dry_run: Flag | None = Field(default=None, description="Report what the import would do, and change nothing.")
    columns: Annotated[dict[str, str], BeforeValidator(_parse_columns), WithJsonSchema({"type": "string"})] | None = (
        Field(
            default=None,
            description="The fields of columns with other names, separated by commas: `Variant SKU:sku,Title:name`. "
            "A name that contains a comma is quoted.",
        )
    )
    unknown_columns: Literal["reject", "ignore"] | None = Field(
        default=None, description="Whether a file with unknown columns is rejected, as by default, or they are skipped."
    )
    delimiter: Delimiter | None = Field(
        default=None,
        description="What separates the cells of CSV: `,`, `;`, `tab` or `|`. By default, the header tells.",
    )
    decimal: Literal[".", ","] | None = Field(
        default=None,
        description="The decimal sign of prices in CSV. By default, it is that of the first price with another number "
        "of digits behind the sign than three, which could be thousands.",
    )

    mode: Literal["upsert", "update"] | None = Field(
        default=None,
        description="`update` creates no products: lines that match none are refused. The default is `upsert`.",
    )

    allow_repeated_sku: Flag | None = Field(
        default=None, description="Accept several lines with the same SKU or id. The last one wins."
    )
    allow_scientific_sku: Flag | None = Field(
        default=None, description="Accept SKUs in CSV like `8.71E+12`, which spreadsheets make of long numbers."
    )

    @property
    def options(self) -> ImportOptions:
        read = ReadOptions(
            columns=self.columns or {},
            ignore_unknown=self.unknown_columns == "ignore",
            delimiter=self.delimiter,
            decimal=self.decimal,
            allow_scientific_sku=bool(self.allow_scientific_sku),
        )
        return ImportOptions(
            read,
            dry_run=bool(self.dry_run),
            update_only=self.mode == "update",
            allow_repeated_sku=bool(self.allow_repeated_sku),
        )
