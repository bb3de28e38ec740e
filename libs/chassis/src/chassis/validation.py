"""Pydantic's validation errors, as messages for people and as a domain error."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from chassis.errors import FieldError, Invalid

# By the type of the error, as Pydantic reports it; Pydantic's own texts name its classes, its terms or our patterns.
_MESSAGES = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "Must be an object"),
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "Must be a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "Must be true or false"),
    "missing": "This is required",
    "extra_forbidden": "Unknown field",
    "string_type": "Must be a string",
    "list_type": "Must be an array",
    "literal_error": "Must be one of these: {expected}",
    "greater_than": "Must be greater than {gt}",
    "greater_than_equal": "Must be at least {ge}",
    "less_than": "Must be less than {lt}",
    "less_than_equal": "Must be at most {le}",
    "string_too_short": "Must have at least {min_length} {unit}",
    "string_too_long": "Must have at most {max_length} {unit}",
    "too_short": "Must have at least {min_length} {unit}, not {actual_length}",
    "too_long": "Must have at most {max_length} {unit}, not {actual_length}",
    # `chassis.text.matching` gives each pattern its own message.
    "string_pattern_mismatch": "The text does not have the expected form",
}


def error_message(error: Mapping[str, Any]) -> str:
    """The message for people about an error, as Pydantic lists it."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("string_too_short", "too_short") and context["min_length"] == 1:
        return "Must not be empty"
    if kind not in _MESSAGES:
        return str(error["msg"]).removeprefix("Value error, ")
    unit = "values" if context.get("field_type") in ("List", "Tuple", "Set", "Dictionary") else "characters"
    texts = {name: value.replace("'", "") if isinstance(value, str) else value for name, value in context.items()}
    return _MESSAGES[kind].format(unit=unit, **texts)


def json_pointer(path: Sequence[int | str]) -> str:
    """The JSON Pointer (RFC 6901) for this path into a body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def invalid(error: ValidationError) -> Invalid:
    """The domain error for invalid data that is not a request body."""
    return Invalid(
        [
            FieldError(json_pointer(each["loc"]), error_message(each))
            for each in error.errors(include_url=False, include_input=False)
        ]
    )
