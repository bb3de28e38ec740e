"""Incremental reading of line-based files in UTF-8 or UTF-16, common to all formats."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chassis.errors import Invalid
from chassis.validation import invalid
from product_service.files.columns import Columns
from product_service.files.options import Layout, ReadOptions
from product_service.schemas import ProductLine

MAX_RECORD_SIZE = 262_144
"""Bytes of one record, including its line breaks. JSON may write a character in 12 bytes."""

BOM = "\ufeff".encode()
NOT_UTF_8 = "Not encoded in UTF-8; in a spreadsheet, choose the UTF-8 variant of CSV when saving"


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

    def feed(self, chunk: bytes, *, last: bool = False) -> Iterator[Record]:
        """The records that end in this chunk, parsed lazily. Consume them before feeding the next chunk.

        Raises Invalid if the file as a whole cannot be read.
        """
        *lines, rest = (self._buffer + self._decoder.decode(chunk, last=last)).split(b"\n")
        if last and rest:
            lines, rest = [*lines, rest], b""
        # Of an unfinished line, keep only enough to detect that it is too long.
        self._buffer = rest[: MAX_RECORD_SIZE + 1]
        for line in lines:
            self._line += 1
            yield from self._read_line(line)

    def end(self) -> Iterator[Record]:
        """The last records, after all chunks have been fed. Raises Invalid like `feed`."""
        yield from self.feed(b"", last=True)

    @abstractmethod
    def _read_line(self, line: bytes) -> Iterator[Record]:
        """The records that end with this line, whose number is `_line`."""

    def _without_bom(self, line: bytes) -> bytes:
        return line.removeprefix(BOM) if self._line == 1 else line


class _Decoder:
    """Converts UTF-16 with a byte order mark to UTF-8, and leaves everything else as it is."""

    def __init__(self) -> None:
        self._start: bytes | None = b""
        self._utf_16: codecs.IncrementalDecoder | None = None

    def decode(self, chunk: bytes, *, last: bool) -> bytes:
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < len(codecs.BOM_UTF16) and not last:
                self._start = chunk
                return b""
            self._start = None
            if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                self._utf_16 = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        if self._utf_16 is None:
            return chunk
        try:
            # A lone surrogate becomes invalid UTF-8, for which its line is refused; and so does half a character.
            return self._utf_16.decode(chunk, last).encode(errors="surrogatepass")
        except UnicodeDecodeError:
            return b"\xff"


def parse_patch(fields: Any) -> ProductLine | Invalid:
    try:
        return ProductLine.model_validate(fields)
    except ValidationError as error:
        return invalid(error)
