"""Pydantic's validation errors, as messages for people and as a domain error."""

import re
from collections.abc import Sequence

from pydantic import ValidationError

from chassis.errors import FieldError, Invalid

# Pydantic's own messages for these name our classes, or call a JSON field an attribute.
_MESSAGES = {
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "extra_forbidden": "Unknown field",
    # It quotes the regular expression. `chassis.text.matching` gives each pattern its own message.
    "string_pattern_mismatch": "The text does not have the expected form",
}


def error_message(kind: str, message: str) -> str:
    """The message for people.

    :param kind: the type of the error, as Pydantic reports it
    :param message: Pydantic's own message
    """
    message = _MESSAGES.get(kind, message.removeprefix("Value error, "))
    # Pydantic's message about the length of a text that one of our validators checked first; for lists it says "List".
    return re.sub(r"^Value should have (.* \d+) items? after validation", r"Text should have \1 characters", message)


def json_pointer(path: Sequence[int | str]) -> str:
    """The JSON Pointer (RFC 6901) for this path into a body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def invalid(error: ValidationError) -> Invalid:
    """The domain error for invalid data that is not a request body."""
    return Invalid(
        [
            FieldError(json_pointer(each["loc"]), error_message(each["type"], each["msg"]))
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    )
