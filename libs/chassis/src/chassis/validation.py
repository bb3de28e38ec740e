"""Pydantic's validation errors as sentences for people, and as a domain error."""

import re
from collections.abc import Sequence

from pydantic import ValidationError

from chassis.errors import FieldError, Invalid

# Pydantic's own sentences for these name our classes, or call a JSON field an attribute.
_SENTENCES = {
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "extra_forbidden": "There is no such field",
}


def sentence(kind: str, message: str) -> str:
    """The sentence that a person reads, for an error's type and message as Pydantic reports them."""
    told = _SENTENCES.get(kind, message.removeprefix("Value error, "))
    # Pydantic's words for the length of a text that was first checked by a validator of ours; for lists it says "List".
    return re.sub(r"^Value should have (.* \d+) items? after validation", r"Text should have \1 characters", told)


def json_pointer(path: Sequence[int | str]) -> str:
    """A JSON Pointer (RFC 6901) to this path in a body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def invalid(error: ValidationError) -> Invalid:
    """The domain error for what Pydantic found wrong in data that is not a request body."""
    return Invalid(
        [
            FieldError(json_pointer(mistake["loc"]), sentence(mistake["type"], mistake["msg"]))
            for mistake in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    )
