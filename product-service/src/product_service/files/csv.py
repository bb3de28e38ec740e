"""Products as CSV (RFC 4180), with a header line.

Spreadsheets run a cell that starts like a formula; a leading apostrophe marks it as text. On export, such cells get an
apostrophe, and so do texts that start with one already. The import removes a leading apostrophe only where the export
would have put one: other programs write names like '47 Brand Cap. An empty cell is null, and a cell with only an
apostrophe is an empty string.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from chassis.errors import FieldError, Invalid
from product_service.domain.fields import EDITABLE_FIELDS, NULLABLE_FIELDS, OUTPUT_TYPES
from product_service.files.reader import MAX_RECORD_SIZE, NOT_UTF_8, Reader, Record, parse_patch

if TYPE_CHECKING:
    from product_service.models import Product

_INTEGER_FIELDS = frozenset(name for name, output_type in OUTPUT_TYPES.items() if output_type is int)
_INTEGER = re.compile("-?[0-9]{1,1000}")
"""Also what is out of range, so that it gets the message of the field."""
# Characters, full-width forms included, that start a formula or move on to the next cell. Spreadsheets may ignore
# spaces before them.
_NEEDS_APOSTROPHE = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]|'|\Z")
_OPENING_QUOTE = re.compile('(?:^|,)"')
_CLOSING_QUOTE = re.compile('(?:[^"]|"")*+"')


class CsvReader(Reader):
    def __init__(self) -> None:
        super().__init__()
        self._columns: list[str] | None = None
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
        if self._columns is None:
            raise _unreadable("The header line is missing")

    def _read_line(self, line: bytes) -> Iterator[Record]:
        if self._failure:
            yield Record(self._line, self._failure)
            return
        if not self._in_quotes:
            self._record, self._size = [], 0
        self._record.append(self._without_bom(line))
        self._size += len(line) + 1
        # Quotation marks are found even if the rest of the line is not valid UTF-8.
        self._in_quotes = _ends_in_quotes(line.decode(errors="replace"), in_quotes=self._in_quotes)
        if self._size > MAX_RECORD_SIZE:
            yield from self._fail(f"does not end within {MAX_RECORD_SIZE} bytes")
        elif not self._in_quotes:
            yield from self._read_record()

    def _fail(self, problem: str) -> Iterator[Record]:
        """Refuse the current record and the rest of the file: it is unknown what is inside quotation marks."""
        self._in_quotes = False
        detail = f"Not read: the record in line {self._first_line} {problem}; is a quotation mark missing?"
        if self._columns is None:
            raise _unreadable(detail)
        self._failure = Invalid([FieldError(None, detail)])
        yield from (Record(line, self._failure) for line in range(self._first_line, self._line + 1))

    @property
    def _first_line(self) -> int:
        return self._line - len(self._record) + 1

    def _read_record(self) -> Iterator[Record]:
        try:
            text = b"\n".join((*self._record, b"")).decode()
            cells = next(csv.reader([text], strict=True), [])
        except UnicodeDecodeError:
            yield self._refuse(NOT_UTF_8)
            return
        except csv.Error as error:
            reason = "a line ends with a carriage return only" if "new-line" in str(error) else error
            yield self._refuse(f"Not valid CSV: {reason}")
            return
        if not any(cells):
            return
        if self._columns is None:
            self._columns = _parse_header(cells)
            return
        while len(cells) > len(self._columns) and not cells[-1]:
            cells.pop()
        if len(cells) != len(self._columns):
            yield self._refuse(f"This line has {len(cells)} cells, but the header has {len(self._columns)}")
            return
        # An empty cell of a field that is not nullable is omitted: changes keep the value, and creations report it.
        fields = {
            name: _parse_cell(name, cell)
            for name, cell in zip(self._columns, cells, strict=True)
            if cell or name in NULLABLE_FIELDS
        }
        yield Record(self._first_line, parse_patch(fields))

    def _refuse(self, detail: str) -> Record:
        if self._columns is None:
            raise _unreadable(f"The header line cannot be read: {detail}")
        return Record(self._first_line, Invalid([FieldError(None, detail)]))


def _ends_in_quotes(text: str, *, in_quotes: bool) -> bool:
    """Whether a quotation mark is open at the end of this line, so that the record continues on the next one."""
    position = 0
    while found := (_CLOSING_QUOTE.match if in_quotes else _OPENING_QUOTE.search)(text, position):
        position, in_quotes = found.end(), not in_quotes
    return in_quotes


def _parse_header(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    while not names[-1]:  # Spreadsheets add empty columns.
        names.pop()
    unknown = [name for name in names if name not in EDITABLE_FIELDS]
    if unknown:
        hint = "; separate columns with commas" if re.search("[;\t]", unknown[0]) else ""
        raise _unreadable(f"Unknown column {unknown[0][:100]!r}; the columns are {', '.join(EDITABLE_FIELDS)}{hint}")
    if len(set(names)) != len(names):
        raise _unreadable("The header names a column twice")
    return names


def _unreadable(detail: str) -> Invalid:
    return Invalid([FieldError("", detail)])


def _parse_cell(name: str, cell: str) -> str | int | None:
    if not cell:
        return None
    text = cell[1:] if cell[0] == "'" and _NEEDS_APOSTROPHE.match(cell, 1) else cell
    return int(text) if name in _INTEGER_FIELDS and _INTEGER.fullmatch(text) else text


def serialize(products: Iterable[Product]) -> str:
    return _write_rows([_format_cell(value) for value in product.snapshot.values()] for product in products)


def _write_rows(rows: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _format_cell(value: str | int | None) -> str:
    if value is None:
        return ""
    text = str(value)
    return f"'{text}" if _NEEDS_APOSTROPHE.match(text) else text


HEADER = _write_rows([EDITABLE_FIELDS])
