"""Incremental reading of line-based files in UTF-8, common to all formats."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chassis.errors import Invalid
from chassis.validation import invalid
from product_service.schemas import ProductLine

MAX_RECORD_SIZE = 65_536
"""Bytes of one record, including its line breaks; several times the size of the largest valid product."""

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

    def __init__(self) -> None:
        self._buffer = b""
        self._line = 0

    def feed(self, chunk: bytes) -> Iterator[Record]:
        """The records that end in this chunk, parsed lazily. Consume them before feeding the next chunk.

        Raises Invalid if the file as a whole cannot be read.
        """
        *lines, rest = (self._buffer + chunk).split(b"\n")
        # Of an unfinished line, keep only enough to detect that it is too long.
        self._buffer = rest[: MAX_RECORD_SIZE + 1]
        for line in lines:
            self._line += 1
            yield from self._read_line(line)

    def end(self) -> Iterator[Record]:
        """The last records, after all chunks have been fed. Raises Invalid like `feed`."""
        if self._buffer:
            yield from self.feed(b"\n")

    @abstractmethod
    def _read_line(self, line: bytes) -> Iterator[Record]:
        """The records that end with this line, whose number is `_line`."""

    def _without_bom(self, line: bytes) -> bytes:
        return line.removeprefix(BOM) if self._line == 1 else line


def parse_patch(fields: Any) -> ProductLine | Invalid:
    try:
        return ProductLine.model_validate(fields)
    except ValidationError as error:
        return invalid(error)
