"""The editable fields of a product, declared once: `ProductFields`.

What a client sends and gets, what the history keeps of a change, and the columns of both file formats follow from that
table. docs/add-a-field.md shows how to add one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from chassis.text import Line, Lines, NotBlank
from product_service.domain import money

LONGEST_NAME = 255
LONGEST_DESCRIPTION = 1000
LONGEST_SKU = 64
LONGEST_CATEGORY = 100
LARGEST_QUANTITY = 2**31 - 1


@dataclass(frozen=True)
class Shown:
    """How a field is shown to clients, where that is not the value as it is stored."""

    as_type: type
    show: Callable[[Any, Any], Any]
    """Called with the product and the stored value, which is not None."""
    description: str | None = None


def _known_currency(code: str) -> str:
    if money.decimals(code) is None:
        raise ValueError("This is not the code of a currency in ISO 4217")
    return code


Name = Annotated[NotBlank, Field(min_length=1, max_length=LONGEST_NAME, description="One line of text, and not blank.")]
Description = Annotated[Lines, Field(max_length=LONGEST_DESCRIPTION)]
Sku = Annotated[
    NotBlank,
    Field(min_length=1, max_length=LONGEST_SKU, description="Unique in the catalogue; free again after deletion."),
]
Category = Annotated[NotBlank, Field(min_length=1, max_length=LONGEST_CATEGORY)]
Quantity = Annotated[int, Field(strict=True, ge=0, le=LARGEST_QUANTITY)]
Price = Annotated[
    Decimal,
    BeforeValidator(money.parse),
    Field(gt=0),
    WithJsonSchema(
        {
            "description": "Above 0, exact, with no more decimals than its currency has: a number, or text.",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**10},
                {"type": "string", "pattern": money.PATTERN},
            ],
        },
        mode="validation",
    ),
    Shown(
        str,
        lambda product, price: money.format_amount(price, product.currency),
        "Exact, with at least the decimals of its currency.",
    ),
]
CurrencyCode = Annotated[
    Line,
    AfterValidator(_known_currency),
    Field(description="The code of a currency in ISO 4217.", json_schema_extra={"pattern": "^[A-Z]{3}$"}),
]


class ProductFields(BaseModel):
    """The table: one line for each editable field. A field of the same name in the model stores it."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: Description | None = None
    price: Price
    currency: CurrencyCode = "USD"
    quantity: Quantity
    sku: Sku | None = None
    category: Category | None = None


_ANNOTATIONS: dict[str, Any] = get_type_hints(ProductFields, include_extras=True)

EDITABLE_FIELDS = tuple(_ANNOTATIONS)
"""The names of the editable fields, in their order."""


def _shown(annotation: Any) -> tuple[Any, Callable[[Any, Any], Any] | None]:
    """How a field of this type is shown: its type in answers, and what makes the value, if it is not the stored one."""
    if get_origin(annotation) is Annotated:
        plain, *metadata = get_args(annotation)
        shown = next((each for each in metadata if isinstance(each, Shown)), None)
        if shown is not None:
            return Annotated[shown.as_type, Field(description=shown.description)], shown.show
        return _shown(plain)
    if get_origin(annotation) in (Union, UnionType):
        types, shows = zip(*map(_shown, get_args(annotation)), strict=True)
        return Union[types], next(filter(None, shows), None)  # noqa: UP007 - the types are known only now
    return annotation, None


_SHOWN = {name: _shown(annotation) for name, annotation in _ANNOTATIONS.items()}

SHOWN_TYPES: dict[str, Any] = {name: shown_type for name, (shown_type, _) in _SHOWN.items()}
"""The types of the editable fields in answers, in the history and in files."""

NULLABLE_FIELDS = frozenset(name for name, shown_type in SHOWN_TYPES.items() if NoneType in get_args(shown_type))


def snapshot(product: Any) -> dict[str, Any]:
    """The editable fields of a product, as clients see them."""
    values = {}
    for name, (_, show) in _SHOWN.items():
        value = getattr(product, name)
        values[name] = value if show is None or value is None else show(product, value)
    return values
