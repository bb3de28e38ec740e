"""Text types of the API: Unicode without control characters.

PostgreSQL rejects NUL, and SQLite truncates strings at it. The other control characters are harmful in names, log
lines and terminals. Lone surrogates are rejected earlier, when the body is decoded.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

MAX_TOKEN_LENGTH = 8 * 1024
"""In bytes; no valid access token is longer."""

_LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
_LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"
# White space, control and format characters (Cc and Cf), Unicode's Default_Ignorable_Code_Point, and the empty pattern
# of Braille.
_INVISIBLE = (
    r"\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    r"\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
_INVISIBLE_BEYOND = (
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Those beyond U+FFFF. The OpenAPI document omits them: some regular expressions do not understand them."""
_VISIBLE = re.compile(f"[^{_INVISIBLE}{_INVISIBLE_BEYOND}]")
_NOT_BLANK = rf"^[^\x00-\x1f\x7f-\x9f]*[^{_INVISIBLE}][^\x00-\x1f\x7f-\x9f]*$"


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


def _require_visible(text: str) -> str:
    if not _VISIBLE.search(text):
        raise ValueError("This must not be blank")
    return text


NotBlank = Annotated[Line, AfterValidator(_require_visible), Field(json_schema_extra={"pattern": _NOT_BLANK})]
"""One line of text with at least one visible character."""
