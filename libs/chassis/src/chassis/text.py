"""Text as the API accepts it: Unicode without control characters. Lone surrogates never get this far.

A NUL would be refused by PostgreSQL and cut a string short in SQLite; the other control characters have no
business in a name, a log line or a terminal. Lone surrogates are refused where a body is decoded.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
_LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
# JavaScript, whose regular expressions JSON Schema has, takes U+FEFF for white space; Python does not.
_NOT_BLANK = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\ufeff\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"


def _matching(pattern: str, otherwise: str) -> tuple[AfterValidator, object]:
    """A check with a sentence of its own, which the schema shows as a pattern."""
    compiled = re.compile(pattern.removesuffix("$") + r"\Z")

    def check(text: str) -> str:
        if not compiled.match(text):
            raise ValueError(otherwise)
        return text

    return AfterValidator(check), Field(json_schema_extra={"pattern": pattern})


_STRICT = StringConstraints(strict=True)

Line = Annotated[str, _STRICT, *_matching(_LINE, "Control characters are not allowed, line breaks neither")]
"""One line of text."""

Lines = Annotated[str, _STRICT, *_matching(_LINES, "Control characters are not allowed, except tabs and line breaks")]
"""Text that may have tabs and line breaks."""

NotBlank = Annotated[Line, *_matching(_NOT_BLANK, "This must not be blank")]
"""One line of text with something in it that can be seen."""
