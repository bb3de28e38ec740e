"""Products as NDJSON: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from chassis.errors import FieldError, Invalid
from chassis.json_decoding import NotJson, decode_json
from product_service.files.columns import row
from product_service.files.options import CSV_OPTIONS, ReadOptions, WriteOptions
from product_service.files.reader import BOM, MAX_RECORD_SIZE, Reader, Record, parse_patch
from product_service.schemas import ProductLine

if TYPE_CHECKING:
    from product_service.models import Product


class NdjsonReader(Reader):
    def __init__(self, options: ReadOptions) -> None:
        super().__init__(options)
        given = [name for name in CSV_OPTIONS if getattr(options, name)]
        if given:
            raise Invalid([FieldError(None, f"{name} is only for CSV", name) for name in given])

    def _read_line(self, line: bytes) -> Iterator[Record]:
        if line.isspace() or line in (b"", BOM):
            self._skip_blank_line()
            return
        if len(line) > MAX_RECORD_SIZE:
            yield self._refuse(f"Longer than {MAX_RECORD_SIZE} bytes")
            return
        try:
            fields = decode_json(self._without_bom(line).decode())
        except UnicodeDecodeError:
            yield self._refuse(self._undecodable)
        except NotJson as error:
            yield self._refuse(f"This {error}")
        else:
            yield Record(self._line, self._parse(fields))

    def _parse(self, fields: Any) -> ProductLine | Invalid:
        if not isinstance(fields, dict):
            return parse_patch(fields)
        known = {}
        for name, value in fields.items():
            field = self._columns.field(name)
            if field is None and self._columns.ignore(name):
                continue
            if field is None and (conflict := self._columns.conflict(name)):
                return Invalid([FieldError(f"/{name}", conflict)])
            if field in known:
                return Invalid([FieldError(f"/{field}", "The line contains this field twice")])
            known[field or name] = value  # Validation reports unknown fields.
        return parse_patch(known)

    def _refuse(self, detail: str) -> Record:
        return Record(self._line, Invalid([FieldError(None, detail)]))


def serialize(products: Iterable[Product], options: WriteOptions) -> str:
    return "".join(f"{json.dumps(row(product, options), ensure_ascii=False)}\n" for product in products)
