"""SKUs and categories: texts that are compared exactly, so two that look the same must be equal."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

from chassis.text import Line

# Those that Unicode does not call format characters: they are invisible, or look like a space.
_OTHER_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# For the OpenAPI document, without the characters beyond U+FFFF: some regular expressions do not understand these.
_PATTERN = (
    r"^[^\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180e"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb]*$"
)


def is_invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or character in _OTHER_INVISIBLE


def normalise(text: str) -> str:
    """Composed characters (NFC), and single spaces between words only, whatever the kind of white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def without_invisible(text: str) -> str | None:
    """The label that was meant, for one that was stored before invisible characters were refused."""
    return normalise("".join(each for each in text if not is_invisible(each))) or None


def _refuse_invisible(text: str) -> str:
    # Those in ASCII are control characters, which are refused before.
    for each in () if text.isascii() else text:
        if is_invisible(each):
            raise ValueError(f"The invisible character U+{ord(each):04X} is not allowed")
    return text


Label = Annotated[
    Line,
    AfterValidator(_refuse_invisible),
    AfterValidator(normalise),
    Field(json_schema_extra={"pattern": _PATTERN}),
]
"""One line of text, normalised. It may be empty."""

MEASURED_NORMALISED = (
    "Stored in composed form (NFC), without white space around it and with single spaces inside; the maximum length is "
    "that of this form."
)
"""For the OpenAPI document, whose `maxLength` can only be that of a text as it is sent."""

BLANK_AS_NULL = AfterValidator(lambda label: label or None)
"""Accepts an empty or blank label as null: a form sends it for a field that was left empty."""
