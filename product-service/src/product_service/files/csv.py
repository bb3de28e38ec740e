"""Products as CSV (RFC 4180), with a header line.

Spreadsheets run a cell that starts like a formula; a leading apostrophe marks it as text. The export puts one before
such texts, before those that start with an apostrophe already, and before those that look like a rounded number. On
request, also before all others that a spreadsheet would convert. The import removes a leading apostrophe only where the
export would have put one: other programs write names like '47 Brand Cap. An empty cell is null, and a cell with only an
apostrophe is an empty string.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from chassis.errors import FieldError, Invalid
from product_service.domain.fields import DECIMAL_FIELDS, EDITABLE_FIELDS, NULLABLE_FIELDS, OUTPUT_TYPES
from product_service.files.columns import COLUMNS, row
from product_service.files.options import ReadOptions, WriteOptions
from product_service.files.reader import MAX_RECORD_SIZE, Reader, Record, parse_patch, unreadable
from product_service.schemas import ProductLine

if TYPE_CHECKING:
    from product_service.models import Product

DELIMITERS = {",": ",", ";": ";", "tab": "\t", "|": "|"}
"""The characters that can separate cells, by their names in options and reports."""

SCIENTIFIC_SKU = (
    "This looks like a number that a spreadsheet has rounded; format its column as text. If it is correct, set "
    "allow_scientific_sku"
)

_INTEGER_FIELDS = {"id", *(name for name, output_type in OUTPUT_TYPES.items() if output_type is int)}
_INTEGER = re.compile("-?[0-9]{1,1000}")
"""Also what is out of range, so that it gets the message of the field."""
_DECIMAL = re.compile("-?[0-9]+([.,])([0-9]+)")
_PRICES = {sign: re.compile(f"-?[0-9]{{1,10}}([{sign}][0-9]{{1,4}})?") for sign in (".", ",", ".,")}
"""What prices look like, by the decimal sign; by both signs while it is unknown."""
# Characters, full-width forms included, that start a formula or move on to the next cell. Spreadsheets may ignore
# spaces before them.
_SCIENTIFIC = r"[0-9](?:[.,][0-9]+)?[eE][+-][0-9]{2,3}"
_SCIENTIFIC_NUMBER = re.compile(_SCIENTIFIC)
"""What a spreadsheet makes of a long number."""
_NEEDS_APOSTROPHE = re.compile(rf"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]|'|\Z|{_SCIENTIFIC}\Z")
# Texts that spreadsheets convert: to numbers, unless these look the same, to dates and to truth values.
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_CONVERTED = re.compile(
    r"(?!(?:0|[1-9][0-9]{0,10})\Z)(?=.*[0-9])[0-9.,:/+\-%$€£¥() ]+(?:e[+-]?[0-9]+)?(?: ?[ap]m?)?"
    rf"|(?:[0-9]{{1,4}}[ ./,-]*)?{_MONTH}[ ./,-]*[0-9]{{1,4}}(?:[ ./,-]+[0-9]{{1,4}})?"
    rf"|[0-9]{{1,4}}[ ./,-]*{_MONTH}|true|false",
    re.IGNORECASE,
)
_VISIBLE = re.compile(r"[^\s,;|\"]")
_CLOSING_QUOTE = re.compile('(?:[^"]|"")*+"')
_OPENING_QUOTES = {name: re.compile(f'(?:^|[{character}])"') for name, character in DELIMITERS.items()}
_ANY_OPENING_QUOTE = re.compile(f'(?:^|[{"".join(DELIMITERS.values())}])"')
# A line that spreadsheets write and read: it names the delimiter.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?', re.IGNORECASE)


class CsvReader(Reader):
    def __init__(self, options: ReadOptions) -> None:
        super().__init__(options)
        self._allow_scientific_sku = options.allow_scientific_sku
        self.layout.delimiter, self.layout.decimal = options.delimiter, options.decimal
        self._fields: list[str | None] | None = None
        """The field of each column; None for ignored columns."""
        self._record: list[bytes] = []
        """The lines of the current record so far."""
        self._size = 0
        self._in_quotes = False
        self._failure: Invalid | None = None
        """Why the rest of the file cannot be read."""

    def end(self) -> Iterator[Record]:
        yield from super().end()
        if self._in_quotes:
            yield from self._fail("does not end")
        if self._fields is None:
            raise unreadable("The header line is missing")

    def _read_line(self, line: bytes) -> Iterator[Record]:
        if self._failure:
            yield Record(self._line, self._failure)
            return
        if self._line == 1:
            line = self._without_bom(line)
            if separator := _SEPARATOR_LINE.fullmatch(line.decode(errors="replace")):
                self._set_delimiter(separator[1])
                return
        if not self._in_quotes:
            if line in (b"", b"\r"):
                self._skip_blank_line()
                return
            self._record, self._size = [], 0
        self._record.append(line)
        self._size += len(line) + 1
        if b'"' in line:
            # Quotation marks are found even if the rest of the line is not valid UTF-8.
            opening = _OPENING_QUOTES.get(self.layout.delimiter or "", _ANY_OPENING_QUOTE)
            self._in_quotes = _ends_in_quotes(line.decode(errors="replace"), opening, in_quotes=self._in_quotes)
        if self._size > MAX_RECORD_SIZE:
            yield from self._fail(f"does not end within {MAX_RECORD_SIZE} bytes")
        elif not self._in_quotes:
            yield from self._read_record()

    def _fail(self, problem: str) -> Iterator[Record]:
        """Refuse the current record and the rest of the file: it is unknown what is inside quotation marks."""
        self._in_quotes = False
        detail = f"Not read: the record in line {self._first_line} {problem}; is a quotation mark missing?"
        if self._fields is None:
            raise unreadable(detail)
        self._failure = Invalid([FieldError(None, detail)])
        yield from (Record(line, self._failure) for line in range(self._first_line, self._line + 1))

    @property
    def _first_line(self) -> int:
        return self._line - len(self._record) + 1

    def _read_record(self) -> Iterator[Record]:
        try:
            text = b"\n".join((*self._record, b"")).decode()
            if self._fields is None:
                self._read_header(text)
                return
            cells = self._split(text)
        except UnicodeDecodeError:
            yield self._refuse(self._undecodable)
            return
        except csv.Error as error:
            reason = "a line ends with a carriage return only" if "new-line" in str(error) else error
            yield self._refuse(f"Not valid CSV: {reason}")
            return
        if not any(cells):
            self._skip_blank_line()
            return
        while len(cells) > len(self._fields) and not cells[-1]:
            cells.pop()
        if len(cells) != len(self._fields):
            yield self._refuse(f"This line has {len(cells)} cells, but the header has {len(self._fields)}")
            return
        yield Record(self._first_line, self._parse_cells(zip(self._fields, cells, strict=True)))

    def _split(self, text: str, delimiter: str | None = None) -> list[str]:
        character = DELIMITERS[delimiter or self.layout.delimiter or ","]
        return next(csv.reader([text], strict=True, delimiter=character), [])

    def _read_header(self, text: str) -> None:
        if not _VISIBLE.search(text):
            self._skip_blank_line()
            return
        if self.layout.delimiter is None:
            self.layout.delimiter = self._detect_delimiter(text)
        names = [cell.strip() for cell in self._split(text)]
        while not names[-1]:  # Spreadsheets add empty columns.
            names.pop()
        self._fields = self._columns.of_header(names)

    def _detect_delimiter(self, header: str) -> str:
        """The only delimiter in the header, or the only one that makes columns of it that are known."""
        columns = {}
        for delimiter in DELIMITERS:
            with suppress(csv.Error):
                columns[delimiter] = self._split(header, delimiter)
        present = [delimiter for delimiter, names in columns.items() if len(names) > 1]
        if len(present) > 1:
            present = [each for each in present if any(map(self._columns.field, columns[each]))]
        if len(present) > 1:
            raise unreadable(f"Unclear which of {' '.join(present)} separates the columns; set the delimiter")
        return present[0] if present else ","

    def _set_delimiter(self, character: str) -> None:
        delimiter = next((name for name, each in DELIMITERS.items() if each == character), None)
        if delimiter is None:
            raise unreadable(f"Cells can't be separated by {character!r}; use one of {' '.join(DELIMITERS)}")
        if self.layout.delimiter not in (None, delimiter):
            raise unreadable(f"The first line of the file sets another delimiter: {delimiter}")
        self.layout.delimiter = delimiter

    def _parse_cells(self, cells: Iterable[tuple[str | None, str]]) -> ProductLine | Invalid:
        fields: dict[str, str | int | None] = {}
        errors = []
        for name, cell in cells:
            # An empty cell of a field that is not nullable is omitted: changes keep the value, and creations report it.
            if name is None or not (cell or name in NULLABLE_FIELDS):
                continue
            text = _unescaped(cell) if cell.startswith("'") else cell
            if not cell:
                fields[name] = None
            elif name == "sku" and not self._allow_scientific_sku and _SCIENTIFIC_NUMBER.fullmatch(cell):
                errors.append(FieldError("/sku", SCIENTIFIC_SKU))
            elif name in _INTEGER_FIELDS and _INTEGER.fullmatch(text):
                fields[name] = int(text)
            elif name in DECIMAL_FIELDS:
                try:
                    fields[name] = self._with_point(text)
                except ValueError as error:
                    errors.append(FieldError(f"/{name}", str(error)))
            else:
                fields[name] = text
        content = parse_patch(fields)
        if errors:
            return Invalid([*errors, *(content.errors if isinstance(content, Invalid) else ())])
        return content

    def _with_point(self, number: str) -> str:
        """The number with a decimal point. Raises ValueError if it is no price, or its decimal sign is unclear."""
        found = _DECIMAL.fullmatch(number)
        if found and self.layout.decimal is None:
            # Three digits may be thousands. In files separated by commas, a point is the decimal sign anyway.
            if len(found[2]) == 3 and (found[1], self.layout.delimiter) != (".", ","):
                raise ValueError(f"Unclear whether {number} has decimals or thousands; set the decimal sign")
            self.layout.decimal = found[1]
        signs = self.layout.decimal or ".,"
        if not _PRICES[signs].fullmatch(number):
            example = " or ".join(f"19{sign}99" for sign in signs)
            raise ValueError(
                f"In this file, a price looks like {example}: up to 10 digits, then up to 4 decimals; no spaces, "
                "no sign for thousands, no currency"
            )
        return number.replace(",", ".")

    def _refuse(self, detail: str) -> Record:
        if self._fields is None:
            raise unreadable(f"The header line cannot be read: {detail}")
        return Record(self._first_line, Invalid([FieldError(None, detail)]))


def _ends_in_quotes(text: str, opening: re.Pattern[str], *, in_quotes: bool) -> bool:
    """Whether a quotation mark is open at the end of this line, so that the record continues on the next one."""
    position = 0
    while found := (_CLOSING_QUOTE.match if in_quotes else opening.search)(text, position):
        position, in_quotes = found.end(), not in_quotes
    return in_quotes


def _unescaped(cell: str) -> str:
    """A cell without the apostrophe that it begins with, if the export would have put one there."""
    return cell[1:] if _NEEDS_APOSTROPHE.match(cell, 1) or _CONVERTED.fullmatch(cell, 1) else cell


def header(options: WriteOptions) -> str:
    names = COLUMNS if options.include_id else EDITABLE_FIELDS
    return ("\ufeff" if options.bom else "") + _write_rows([names])


def serialize(products: Iterable[Product], options: WriteOptions) -> str:
    return _write_rows(
        [_format_cell(name, value, options) for name, value in row(product, options).items()] for product in products
    )


def _write_rows(rows: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _format_cell(name: str, value: str | int | None, options: WriteOptions) -> str:
    if not isinstance(value, str) or name in DECIMAL_FIELDS:
        return "" if value is None else str(value)
    needs_apostrophe = _NEEDS_APOSTROPHE.match(value) or (options.spreadsheet and _CONVERTED.fullmatch(value))
    return f"'{value}" if needs_apostrophe else value
