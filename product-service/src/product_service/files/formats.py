"""The supported file formats by name. Reading an exported file restores exactly what was exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from product_service.files import csv, ndjson
from product_service.files.reader import Reader, ReadOptions

if TYPE_CHECKING:
    from product_service.models import Product


@dataclass(frozen=True)
class Format:
    media_type: str
    reader: Callable[[ReadOptions], Reader]
    header: str
    """The beginning of every file."""
    serialize: Callable[[Iterable[Product]], str]


FORMATS = {
    "csv": Format("text/csv", csv.CsvReader, csv.HEADER, csv.serialize),
    "ndjson": Format("application/x-ndjson", ndjson.NdjsonReader, "", ndjson.serialize),
}
