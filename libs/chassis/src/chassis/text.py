"""Text types of the API: Unicode without control characters.

PostgreSQL rejects NUL, and SQLite truncates strings at it. The other control characters are harmful in names, log
lines and terminals. Lone surrogates are rejected earlier, when the body is decoded.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
_LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
# JSON Schema uses JavaScript's regular expressions, where U+FEFF is white space; in Python it is not.
_NOT_BLANK = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\ufeff\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"


def matching(pattern: str, message: str) -> tuple[AfterValidator, object]:
    """A validator with a message for people, whose schema has the pattern.

    With Pydantic's own `pattern`, the message would be the regular expression.
    """
    compiled = re.compile(pattern.removesuffix("$") + r"\Z")

    def check(text: str) -> str:
        if not compiled.match(text):
            raise ValueError(message)
        return text

    return AfterValidator(check), Field(json_schema_extra={"pattern": pattern})


_STRICT = StringConstraints(strict=True)

Line = Annotated[str, _STRICT, *matching(_LINE, "Control characters and line breaks are not allowed")]
"""One line of text."""

Lines = Annotated[str, _STRICT, *matching(_LINES, "Control characters are not allowed, except tabs and line breaks")]
"""Text that may contain tabs and line breaks."""

NotBlank = Annotated[Line, *matching(_NOT_BLANK, "This must not be blank")]
"""One line of text with at least one visible character."""
