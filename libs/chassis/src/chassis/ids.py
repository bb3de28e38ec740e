"""Row ids, as both databases store them and as clients send them."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

LARGEST_ID = 2**63 - 1


def _digits_only(value: object) -> object:
    # Pydantic alone would accept "1_000", " 7 " and "3.0", and "007" would be a second URL for row 7.
    if isinstance(value, str) and not re.fullmatch(r"-?(0|[1-9][0-9]*)", value):
        raise ValueError("Must be a whole number in decimal digits")
    return value


Digits = BeforeValidator(_digits_only)
"""Validates an integer in a path or a query."""

RowId = Annotated[int, Field(ge=1, le=LARGEST_ID, examples=[1]), Digits]
"""The id of a row, in a path."""
