"""`chassis.validation`: Pydantic's errors as messages for people."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from chassis.text import NotBlank
from chassis.validation import error_message


class Book(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    name: str


ROUNDED = AfterValidator(lambda text: text.strip())


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (StrictInt, "3", "Must be a whole number"),
        (int, "x", "Must be a whole number"),
        (int, 1.5, "Must be a whole number"),
        (StrictStr, 3, "Must be a string"),
        (StrictBool, 1, "Must be true or false"),
        (list[int], {}, "Must be an array"),
        (Book, [], "Must be an object"),
        (Book, {}, "This is required"),
        (Book, {"name": "Faust", "colour": "red"}, "Unknown field"),
        (Literal["user", "admin"], "owner", "Must be one of these: user or admin"),
        (Annotated[int, Field(ge=1)], 0, "Must be at least 1"),
        (Annotated[int, Field(le=9)], 10, "Must be at most 9"),
        (Annotated[Decimal, Field(gt=0)], 0, "Must be greater than 0"),
        (Annotated[int, Field(lt=9)], 9, "Must be less than 9"),
        (Annotated[str, Field(min_length=1)], "", "Must not be empty"),
        (Annotated[str, Field(min_length=3)], "ab", "Must have at least 3 characters"),
        (Annotated[str, Field(max_length=3)], "abcd", "Must have at most 3 characters"),
        (Annotated[str, ROUNDED, Field(min_length=1)], " ", "Must not be empty"),
        (Annotated[str, ROUNDED, Field(max_length=3)], "abcd", "Must have at most 3 characters, not 4"),
        (Annotated[list[int], Field(max_length=2)], [1, 2, 3], "Must have at most 2 values, not 3"),
        (Annotated[str, Field(pattern="^[a-z]$")], "1", "The text does not have the expected form"),
        (NotBlank, " ", "This must not be blank"),
    ],
)
def test_messages_say_what_a_value_must_be(annotation: Any, value: object, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(annotation).validate_python(value)
    assert [error_message(each) for each in raised.value.errors()] == [message]
