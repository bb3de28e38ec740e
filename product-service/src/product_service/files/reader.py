"""Incremental reading of line-based files in UTF-8 or UTF-16, common to all formats."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chassis.errors import FieldError, Invalid
from chassis.validation import invalid
from product_service.errors import ImportLimitExceeded
from product_service.files.columns import Columns
from product_service.files.options import Layout, ReadOptions
from product_service.schemas import ProductLine

MAX_RECORD_SIZE = 262_144
"""Bytes of one record, including its line breaks. JSON may write a character in 12 bytes."""

BOM = "\ufeff".encode()
NOT_UTF_8 = "Not encoded in UTF-8; in a spreadsheet, choose the UTF-8 variant of CSV when saving"
NOT_UTF_16 = "Not valid UTF-16, in which the file begins"
CUT_OFF = "The file ends in the middle of a character; is it complete?"
UTF_32 = "This is UTF-32; save it as UTF-8"
NO_BYTE_ORDER_MARK = "This looks like UTF-16 or UTF-32 without a byte order mark; save it as UTF-8"
WORKBOOK = "This is a workbook of a spreadsheet; save it as CSV"

_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""The first bytes of an .xlsx file and of an .xls file."""
_UTF_32_BOMS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF_16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Record:
    """One product of a file, or the reason why it cannot be read."""

    line: int
    """The number of its first line, starting at 1."""
    content: ProductLine | Invalid


class Reader(ABC):
    """Reads a file from chunks, which may be split anywhere. Buffers at most one record."""

    def __init__(self, options: ReadOptions) -> None:
        self.layout = Layout()
        self._columns = Columns(options.columns, self.layout.ignored_columns if options.ignore_unknown else None)
        self._decoder = _Decoder()
        self._buffer = b""
        self._line = 0
        self._blank_lines = 0
        self._max_lines, self._max_blank_lines = options.max_lines, options.max_blank_lines

    def feed(self, chunk: bytes, *, last: bool = False) -> Iterator[Record]:
        """The records that end in this chunk, parsed lazily. Consume them before feeding the next chunk.

        Raises Invalid if the file as a whole cannot be read, or ImportLimitExceeded.
        """
        *lines, rest = (self._buffer + self._decoder.decode(chunk, last=last)).split(b"\n")
        if last and rest:
            lines, rest = [*lines, rest], b""
        # Of an unfinished line, keep only enough to detect that it is too long.
        self._buffer = rest[: MAX_RECORD_SIZE + 1]
        for line in lines:
            self._line += 1
            if self._line > self._max_lines:
                raise ImportLimitExceeded(
                    f"The file has more than {self._max_lines} lines; split it into several files"
                )
            if self._line == 1:
                _require_text(line)
            yield from self._read_line(line)

    def end(self) -> Iterator[Record]:
        """The last records, after all chunks have been fed. Raises Invalid like `feed`."""
        yield from self.feed(b"", last=True)

    @abstractmethod
    def _read_line(self, line: bytes) -> Iterator[Record]:
        """The records that end with this line, whose number is `_line`."""

    @property
    def _undecodable(self) -> str:
        """Why a line can't be decoded."""
        return self._decoder.problem

    def _skip_blank_line(self) -> None:
        self._blank_lines += 1
        if self._blank_lines > self._max_blank_lines:
            raise ImportLimitExceeded(f"The file has more than {self._max_blank_lines} blank lines; delete them")

    def _without_bom(self, line: bytes) -> bytes:
        return line.removeprefix(BOM) if self._line == 1 else line


def _require_text(first_line: bytes) -> None:
    """Raise Invalid if the file is a workbook, or in an encoding that nothing announces."""
    if first_line.startswith(_WORKBOOKS):
        raise unreadable(WORKBOOK)
    if b"\0" in first_line:
        raise unreadable(NO_BYTE_ORDER_MARK)


def unreadable(detail: str) -> Invalid:
    """The error of a file that cannot be read at all."""
    return Invalid([FieldError("", detail)])


class _Decoder:
    """Converts UTF-16 with a byte order mark to UTF-8, and leaves everything else as it is."""

    def __init__(self) -> None:
        self.problem = NOT_UTF_8
        """Why a line in the result is not valid UTF-8."""
        self._start: bytes | None = b""
        self._utf_16: codecs.IncrementalDecoder | None = None

    def decode(self, chunk: bytes, *, last: bool) -> bytes:
        """The text of this chunk in UTF-8; raises Invalid for UTF-32."""
        if self._start is not None:
            chunk = self._start + chunk
            # The byte order mark of UTF-32 begins with that of UTF-16.
            if len(chunk) < len(codecs.BOM_UTF32) and not last:
                self._start = chunk
                return b""
            self._start = None
            if chunk.startswith(_UTF_32_BOMS):
                raise unreadable(UTF_32)
            if chunk.startswith(_UTF_16_BOMS):
                self._utf_16 = codecs.getincrementaldecoder("utf-16")("surrogatepass")
                self.problem = NOT_UTF_16
        if self._utf_16 is None:
            return chunk
        try:
            # A lone surrogate becomes invalid UTF-8, for which its line is refused; and so does half a character.
            return self._utf_16.decode(chunk, last).encode(errors="surrogatepass")
        except UnicodeDecodeError:
            self.problem = CUT_OFF
            return b"\xff"


def parse_patch(fields: Any) -> ProductLine | Invalid:
    try:
        return ProductLine.model_validate(fields)
    except ValidationError as error:
        return invalid(error)
