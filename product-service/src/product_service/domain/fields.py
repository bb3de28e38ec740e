"""The editable fields of a product, declared once: `ProductFields`.

The request and response schemas, the history and the columns of both file formats derive from it.
docs/add-a-field.md shows how to add a field.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from chassis.text import Line, Lines, NotBlank
from product_service.domain import money
from product_service.domain.labels import BLANK_AS_NULL, MEASURED_NORMALISED, Label

MAX_NAME_LENGTH = 255
MAX_DESCRIPTION_LENGTH = 10_000
"""Unless the operator sets another one, of at most LARGEST_DESCRIPTION_LENGTH."""
LARGEST_DESCRIPTION_LENGTH = 20_000
MAX_SKU_LENGTH = 64
MAX_CATEGORY_LENGTH = 100
MAX_QUANTITY = 2**31 - 1


@dataclass(frozen=True)
class Output:
    """How a field is returned to clients, if that differs from the stored value."""

    as_type: type
    convert: Callable[[Mapping[str, Any], Any], Any]
    """Takes the fields of the product and the stored value, which is never None."""
    description: str | None = None


Name = Annotated[
    NotBlank,
    Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="A single line of text with at least one visible character.",
    ),
]
Description = Annotated[
    Lines,
    Field(
        max_length=LARGEST_DESCRIPTION_LENGTH,
        description="Plain text; HTML in it is stored and returned as it is. The operator can set another maximum.",
        json_schema_extra={"maxLength": MAX_DESCRIPTION_LENGTH},
    ),
]
Sku = Annotated[
    Label,
    Field(
        max_length=MAX_SKU_LENGTH,
        description=f"Unique in the catalogue. Deleting a product frees its SKU. {MEASURED_NORMALISED}",
    ),
]
Category = Annotated[Label, Field(max_length=MAX_CATEGORY_LENGTH, description=MEASURED_NORMALISED)]
Quantity = Annotated[int, Field(strict=True, ge=0, le=MAX_QUANTITY)]
Price = Annotated[
    Decimal,
    BeforeValidator(money.parse),
    Field(gt=0),
    WithJsonSchema(
        {
            "description": "A number or a string greater than 0, with no more decimals than its currency has.",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**10},
                {"type": "string", "pattern": money.PATTERN},
            ],
        },
        mode="validation",
    ),
    Output(
        str,
        lambda fields, price: money.format_amount(price, fields["currency"]),
        "The exact amount, with at least the decimals of its currency.",
    ),
]
CurrencyCode = Annotated[
    Line,
    AfterValidator(money.require_currency),
    Field(description="An ISO 4217 currency code.", json_schema_extra={"pattern": money.CODE_PATTERN}),
]


class ProductFields(BaseModel):
    """One line per editable field. The model stores each field under the same name."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Description | None = None
    price: Price
    currency: CurrencyCode = "USD"
    quantity: Quantity
    sku: Annotated[Sku | None, BLANK_AS_NULL] = None
    category: Annotated[Category | None, BLANK_AS_NULL] = None


EXAMPLE: dict[str, Any] = {
    "name": "Mechanical keyboard",
    "description": "Eighty-seven keys, hot-swappable switches.",
    "price": "89.90",
    "currency": "USD",
    "quantity": 12,
    "category": "peripherals",
}
"""The fields of a product in the examples of the OpenAPI document. It can be created repeatedly: it has no SKU."""

_ANNOTATIONS: dict[str, Any] = get_type_hints(ProductFields, include_extras=True)

EDITABLE_FIELDS = tuple(_ANNOTATIONS)
"""The names of the editable fields, in declaration order."""


def _output(annotation: Any) -> tuple[Any, Callable[[Any, Any], Any] | None]:
    """The type that clients get for a field, and the function that converts the stored value, if any."""
    if get_origin(annotation) is Annotated:
        plain, *metadata = get_args(annotation)
        output = next((each for each in metadata if isinstance(each, Output)), None)
        if output is not None:
            return Annotated[output.as_type, Field(description=output.description)], output.convert
        return _output(plain)
    if get_origin(annotation) in (Union, UnionType):
        types, converters = zip(*map(_output, get_args(annotation)), strict=True)
        return Union[types], next(filter(None, converters), None)  # noqa: UP007 - the types are only known at run time
    return annotation, None


_OUTPUTS = {name: _output(annotation) for name, annotation in _ANNOTATIONS.items()}

OUTPUT_TYPES: dict[str, Any] = {name: output_type for name, (output_type, _) in _OUTPUTS.items()}
"""The types of the editable fields in responses, in the history and in files."""


def _contains(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or any(_contains(each, wanted) for each in get_args(annotation))


DECIMAL_FIELDS = frozenset(name for name, annotation in _ANNOTATIONS.items() if _contains(annotation, Decimal))

NULLABLE_FIELDS = frozenset(name for name, output_type in OUTPUT_TYPES.items() if NoneType in get_args(output_type))


_CONVERTERS = {name: convert for name, (_, convert) in _OUTPUTS.items() if convert}
_values_of = attrgetter(*EDITABLE_FIELDS)


def fields_of(product: Any) -> dict[str, Any]:
    """The editable fields of a product, as they are stored."""
    return dict(zip(EDITABLE_FIELDS, _values_of(product), strict=True))


def snapshot(product: Any) -> dict[str, Any]:
    """The editable fields of a product, as clients see them."""
    return as_shown(fields_of(product))


def as_shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The editable fields, as clients see them."""
    shown = {**fields}
    for name, convert in _CONVERTERS.items():
        if (value := fields[name]) is not None:
            shown[name] = convert(fields, value)
    return shown


DEFAULTS = {name: field.default for name, field in ProductFields.model_fields.items() if not field.is_required()}
"""The values of fields that are not sent for a new product."""

REQUIRED_FIELDS = frozenset(EDITABLE_FIELDS) - DEFAULTS.keys()
"""The fields that have to be sent for a new product."""
