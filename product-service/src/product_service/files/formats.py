"""The supported file formats by name. Reading an exported file restores exactly what was exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from product_service.files import csv, ndjson
from product_service.files.options import ReadOptions, WriteOptions
from product_service.files.reader import Reader

if TYPE_CHECKING:
    from product_service.models import Product


@dataclass(frozen=True)
class Format:
    media_type: str
    reader: Callable[[ReadOptions], Reader]
    header: Callable[[WriteOptions], str]
    """The beginning of a file."""
    serialize: Callable[[Iterable[Product], WriteOptions], str]


FORMATS = {
    "csv": Format("text/csv", csv.CsvReader, csv.header, csv.serialize),
    "ndjson": Format("application/x-ndjson", ndjson.NdjsonReader, lambda _: "", ndjson.serialize),
}
