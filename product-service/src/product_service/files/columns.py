"""Which field of a product a column of a file contains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chassis.errors import FieldError, Invalid
from product_service.domain.fields import EDITABLE_FIELDS, snapshot
from product_service.files.options import WriteOptions

if TYPE_CHECKING:
    from product_service.models import Product

COLUMNS = ("id", *EDITABLE_FIELDS)

_MAX_NAMES = 100  # in a message or a report
_MAX_NAME_LENGTH = 100


class Columns:
    """Finds fields by the names of columns. Case and blanks around or between words do not matter."""

    def __init__(self, mapping: Mapping[str, str], ignored: list[str] | None) -> None:
        """:param mapping: the fields of columns with another name, by name
        :param ignored: where to add the names of unknown columns; None to reject them
        """
        self._mapped = list(mapping)
        self._replacements = {field: name for name, field in mapping.items()}
        self._fields = {name: name for name in COLUMNS if name not in self._replacements}
        self._fields |= {_normalised(name): field for name, field in mapping.items()}
        self._ignored = ignored

    def field(self, name: str) -> str | None:
        """The field that the column contains; None for an unknown column."""
        return self._fields.get(name) or self._fields.get(_normalised(name))

    def conflict(self, name: str) -> str | None:
        """The error in a column that is named after a field, if `columns` maps another column to that field."""
        replacement = self._replacements.get(_normalised(name))
        if replacement is None:
            return None
        return (
            f"columns maps {_listed([replacement])} to {_normalised(name)}, so {_listed([name])} has no field. Map "
            "only one of them, or skip the other with unknown_columns=ignore"
        )

    def ignore(self, name: str) -> bool:
        """Whether an unknown column is ignored. Its name is added to the report."""
        if self._ignored is None:
            return False
        if len(self._ignored) < _MAX_NAMES and (short := name[:_MAX_NAME_LENGTH]) not in self._ignored:
            self._ignored.append(short)
        return True

    def of_header(self, names: Sequence[str]) -> list[str | None]:
        """The fields of the columns of a table; None for ignored columns. Raises Invalid, with all errors at once."""
        fields = [self.field(name) for name in names]
        unread = [name for name, field in zip(names, fields, strict=True) if field is None and not self.ignore(name)]
        unknown = [name for name in unread if not self.conflict(name)]
        count = Counter(fields)
        twice = [name for name, field in zip(names, fields, strict=True) if field and count[field] > 1]
        present = {_normalised(name) for name in names}
        missing = [name for name in self._mapped if _normalised(name) not in present]
        errors = []
        if unknown:
            errors.append(
                f"Unknown columns: {_listed(unknown)}. Skip them with unknown_columns=ignore, or map them, as in "
                f"columns=Title:name. The columns are {', '.join(COLUMNS)}"
            )
        errors += filter(None, map(self.conflict, unread))
        if not unread and not any(fields):
            errors.append(f"No column is known. The columns are {', '.join(COLUMNS)}")
        if twice:
            errors.append(f"These columns contain the same field: {_listed(twice)}")
        if missing:
            errors.append(f"The file does not have these columns: {_listed(missing)}")
        if errors:
            raise Invalid([FieldError("", error) for error in errors])
        return fields


def _normalised(name: str) -> str:
    return " ".join(name.split()).casefold()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:_MAX_NAME_LENGTH]) for name in names[:_MAX_NAMES])
    more = len(names) - _MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def row(product: Product, options: WriteOptions) -> dict[str, Any]:
    """The columns of a product in a file."""
    fields = snapshot(product)
    return {"id": product.id, **fields} if options.include_id else fields
