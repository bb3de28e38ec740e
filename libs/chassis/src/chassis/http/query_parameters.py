"""The base of query parameters. Imports no framework, because commands have some of the same options."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator, model_validator


def _flag(value: object) -> object:
    flag = {"true": True, "1": True, "false": False, "0": False}.get(value.lower()) if isinstance(value, str) else value
    if flag is None:
        # Pydantic alone would accept "y", "off" and more.
        raise ValueError("Must be true or false")
    return flag


Flag = Annotated[bool, BeforeValidator(_flag)]
"""A boolean in a query: `true`, `false`, `1` or `0`, in any case."""


class Repeated(list[str]):
    """The values of a query parameter that was sent more than once."""


def _without_empty(value: Any) -> Any:
    # A list that does not come from a query, such as a position in a cursor, has other values than text.
    is_text = type(value) is list and all(isinstance(each, str) for each in value)
    return [each for each in value if each != ""] if is_text else value


class QueryParameters(BaseModel):
    """The base of an operation's query parameters.

    Unknown parameters are rejected, and repeated ones unless the field is a list. An empty parameter counts as absent,
    because a form sends all of its fields.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, parameters: Any) -> Any:
        if not isinstance(parameters, dict):
            return parameters
        given = {name: _without_empty(value) for name, value in parameters.items()}
        return {name: value for name, value in given.items() if value not in ("", []) or name not in cls.model_fields}

    @field_validator("*", mode="before")
    @classmethod
    def _require_one(cls, value: Any) -> Any:
        if isinstance(value, Repeated):
            raise ValueError("Send this parameter only once")
        return value
