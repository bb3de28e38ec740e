"""The catalogue as a file, CSV (RFC 4180) or NDJSON: a line for each product, in UTF-8.

What is written here is read here exactly. A spreadsheet takes a cell that begins like a formula for one, and runs it:
an apostrophe in front makes it text. So each cell of CSV that begins with an apostrophe has it taken off, and where
the text itself begins with one, it is written twice. A cell with nothing in it is no value, and one with nothing but
an apostrophe is an empty text.
"""

from __future__ import annotations

import csv
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from chassis.errors import FieldError, Invalid
from chassis.json_decoding import NotJson, decode_json
from chassis.validation import invalid
from product_service.domain.fields import EDITABLE_FIELDS, NULLABLE_FIELDS, SHOWN_TYPES
from product_service.schemas import ProductPatch

if TYPE_CHECKING:
    from product_service.models import Product

LONGEST_RECORD = 65_536
"""Bytes of one product, its line breaks among them; several times what the longest one takes."""

_WHOLE_NUMBERS = frozenset(name for name, shown in SHOWN_TYPES.items() if shown is int)
# With what a spreadsheet begins a formula, in full width too, or goes on to the next cell; also behind spaces, which
# it may leave out.
_NEEDS_APOSTROPHE = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]|'|\Z")
_OPENING = re.compile('(?:^|,)"')
_CLOSING = re.compile('(?:[^"]|"")*+"')
_BOM = "\ufeff".encode()
_NOT_UTF_8 = "This is not UTF-8; spreadsheets have it among the formats of CSV"
_WHOLE_NUMBER = re.compile("[0-9]{1,10}")


@dataclass(frozen=True)
class Line:
    """What one line says of a product, or why it cannot be read."""

    number: int
    """Where it begins in the file, counted from 1."""
    content: ProductPatch | Invalid


class Reader(ABC):
    """Reads a file that comes in pieces, cut anywhere, and keeps no more of it than one record."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that end in this piece, made as they are asked for, and to be asked for before the next piece.

        Raises Invalid where the file cannot be read at all.
        """
        *ended, rest = (self._rest + piece).split(b"\n")
        # Of a line without an end only as much is kept as shows that it is too long.
        self._rest = rest[: LONGEST_RECORD + 1]
        for raw in ended:
            self._number += 1
            yield from self._read(raw)

    def end(self) -> Iterator[Line]:
        """The last lines, when all pieces have been fed. Raises Invalid as `feed` does."""
        if self._rest:
            yield from self.feed(b"\n")

    @abstractmethod
    def _read(self, raw: bytes) -> Iterator[Line]:
        """What the line with the number `_number` ends: a record, several or none."""


class _NdjsonReader(Reader):
    def _read(self, raw: bytes) -> Iterator[Line]:
        if raw.isspace() or raw in (b"", _BOM):
            return
        if len(raw) > LONGEST_RECORD:
            yield self._refuse(f"This is longer than {LONGEST_RECORD} bytes")
            return
        try:
            fields = decode_json((raw.removeprefix(_BOM) if self._number == 1 else raw).decode())
        except UnicodeDecodeError:
            yield self._refuse(_NOT_UTF_8)
        except NotJson as error:
            yield self._refuse(f"This {error}")
        else:
            yield Line(self._number, _patch(fields))

    def _refuse(self, detail: str) -> Line:
        return Line(self._number, Invalid([FieldError(None, detail)]))


class _CsvReader(Reader):
    def __init__(self) -> None:
        super().__init__()
        self._columns: list[str] | None = None
        self._record: list[bytes] = []
        """The lines of the record so far."""
        self._size = 0
        self._in_quotes = False
        self._lost: Invalid | None = None
        """Why nothing is read any more."""

    def end(self) -> Iterator[Line]:
        yield from super().end()
        if self._in_quotes:
            yield from self._lose("does not end")
        if self._columns is None:
            raise _no_catalogue("There is no line that names the columns")

    def _read(self, raw: bytes) -> Iterator[Line]:
        if self._lost:
            yield Line(self._number, self._lost)
            return
        if not self._in_quotes:
            self._record, self._size = [], 0
        self._record.append(raw.removeprefix(_BOM) if self._number == 1 else raw)
        self._size += len(raw) + 1
        # A quotation mark is the same byte in all that comes here, also where the rest cannot be read.
        self._in_quotes = _ends_in_quotes(raw.decode(errors="replace"), in_quotes=self._in_quotes)
        if self._size > LONGEST_RECORD:
            yield from self._lose(f"does not end within {LONGEST_RECORD} bytes")
        elif not self._in_quotes:
            yield from self._read_record()

    def _lose(self, does: str) -> Iterator[Line]:
        """Refuse what has been read of a record, and all behind it: nobody knows which of it is within quotes."""
        self._in_quotes = False
        detail = f"Not read: what begins in line {self._begins} {does}; is a quotation mark missing?"
        if self._columns is None:
            raise _no_catalogue(detail)
        self._lost = Invalid([FieldError(None, detail)])
        yield from (Line(number, self._lost) for number in range(self._begins, self._number + 1))

    @property
    def _begins(self) -> int:
        return self._number - len(self._record) + 1

    def _read_record(self) -> Iterator[Line]:
        try:
            text = b"\n".join((*self._record, b"")).decode()
            cells = next(csv.reader([text], strict=True), [])
        except UnicodeDecodeError:
            yield self._refuse(_NOT_UTF_8)
            return
        except csv.Error as error:
            told = "a line ends with a carriage return alone" if "new-line" in str(error) else error
            yield self._refuse(f"This is not CSV: {told}")
            return
        if not any(cells):
            return
        if self._columns is None:
            self._columns = _columns(cells)
            return
        while len(cells) > len(self._columns) and not cells[-1]:
            cells.pop()
        if len(cells) != len(self._columns):
            yield self._refuse(f"There are {len(cells)} cells here, and {len(self._columns)} columns")
            return
        given = zip(self._columns, cells, strict=True)
        # What must not be empty is left out where it is: a change leaves it as it is, and a creation misses it.
        fields = {name: _value(name, cell) for name, cell in given if cell or name in NULLABLE_FIELDS}
        yield Line(self._begins, _patch(fields))

    def _refuse(self, detail: str) -> Line:
        if self._columns is None:
            raise _no_catalogue(f"The line that names the columns cannot be read: {detail}")
        return Line(self._begins, Invalid([FieldError(None, detail)]))


def _ends_in_quotes(text: str, *, in_quotes: bool) -> bool:
    """Whether the record goes on behind this line, because a quotation mark is open at its end."""
    position = 0
    while found := (_CLOSING.match if in_quotes else _OPENING.search)(text, position):
        position, in_quotes = found.end(), not in_quotes
    return in_quotes


def _columns(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    while not names[-1]:  # Spreadsheets add columns with nothing in them.
        names.pop()
    unknown = [name for name in names if name not in EDITABLE_FIELDS]
    if unknown:
        hint = "; they are separated by commas" if re.search("[;\t]", unknown[0]) else ""
        raise _no_catalogue(f"There is no column {unknown[0][:100]!r}; there are {', '.join(EDITABLE_FIELDS)}{hint}")
    if len(set(names)) != len(names):
        raise _no_catalogue("A column is named twice")
    return names


def _no_catalogue(detail: str) -> Invalid:
    return Invalid([FieldError("", detail)])


def _value(name: str, cell: str) -> str | int | None:
    if not cell:
        return None
    text = cell.removeprefix("'")
    return int(text) if name in _WHOLE_NUMBERS and _WHOLE_NUMBER.fullmatch(text) else text


def _patch(fields: Any) -> ProductPatch | Invalid:
    try:
        return ProductPatch.model_validate(fields)
    except ValidationError as error:
        return invalid(error)


def _as_csv(products: Iterable[Product]) -> str:
    return _rows([_cell(value) for value in product.snapshot.values()] for product in products)


def _rows(rows: Iterable[Iterable[str]]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()


def _cell(value: str | int | None) -> str:
    if value is None:
        return ""
    text = str(value)
    return f"'{text}" if _NEEDS_APOSTROPHE.match(text) else text


def _as_ndjson(products: Iterable[Product]) -> str:
    return "".join(f"{json.dumps(product.snapshot, ensure_ascii=False)}\n" for product in products)


@dataclass(frozen=True)
class Format:
    """One way to write the catalogue down."""

    media_type: str
    reader: Callable[[], Reader]
    head: str
    """What a file begins with."""
    write: Callable[[Iterable[Product]], str]


FORMATS = {
    "csv": Format("text/csv", _CsvReader, _rows([EDITABLE_FIELDS]), _as_csv),
    "ndjson": Format("application/x-ndjson", _NdjsonReader, "", _as_ndjson),
}
