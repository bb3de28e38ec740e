"""What crosses the wire of the product service."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
)

from chassis.http.health import Health
from chassis.text import Line, Lines, NotBlank
from product_service.domain import money
from product_service.models.changes import LONGEST_REASON
from product_service.models.products import (
    LARGEST_QUANTITY,
    LONGEST_CATEGORY,
    LONGEST_DESCRIPTION,
    LONGEST_NAME,
    LONGEST_SKU,
    Product,
)


def _unset() -> Any:
    """The default of a field that may be left out, but not be null; `model_fields_set` tells whether it was sent."""


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
]
CurrencyCode = Annotated[
    Line,
    AfterValidator(_known_currency),
    Field(description="The code of a currency in ISO 4217.", json_schema_extra={"pattern": "^[A-Z]{3}$"}),
]

_EXAMPLE: dict[str, Any] = {
    "name": "Mechanical keyboard",
    "description": "Eighty-seven keys, hot-swappable switches.",
    "price": "89.90",
    "currency": "USD",
    "quantity": 12,
    "sku": "KB-87-BLK",
    "category": "peripherals",
}


class ProductCreate(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    name: Name
    description: Description | None = None
    price: Price
    currency: CurrencyCode = "USD"
    quantity: Quantity
    sku: Sku | None = None
    category: Category | None = None


class ProductPatch(BaseModel):
    """The fields that are sent are set; null clears those that may be empty."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"price": "79.90", "quantity": 30}]})

    name: Name = Field(default_factory=_unset)
    description: Description | None = Field(default_factory=_unset)
    price: Price = Field(default_factory=_unset)
    currency: CurrencyCode = Field(default_factory=_unset)
    quantity: Quantity = Field(default_factory=_unset)
    sku: Sku | None = Field(default_factory=_unset)
    category: Category | None = Field(default_factory=_unset)


class ProductRead(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 1,
                    **_EXAMPLE,
                    "owner_id": 1,
                    "version": 1,
                    "created_at": "2026-01-31T12:00:00.000000Z",
                    "updated_at": "2026-01-31T12:00:00.000000Z",
                }
            ]
        }
    )

    id: int
    name: str
    description: str | None
    price: str = Field(description="Exact, with at least the decimals of its currency.")
    currency: str
    quantity: int
    sku: str | None
    category: str | None
    owner_id: int
    version: int = Field(description="Counts the changes.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, product: Product) -> Self:
        return cls(
            id=product.id,
            name=product.name,
            description=product.description,
            price=money.written(product.price, product.currency),
            currency=product.currency,
            quantity=product.quantity,
            sku=product.sku,
            category=product.category,
            owner_id=product.owner_id,
            version=product.version,
            created_at=product.created_at,
            updated_at=product.updated_at,
        )


class StockAdjustment(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"delta": -3, "reason": "sold"}]})

    delta: int = Field(
        strict=True,
        ge=-LARGEST_QUANTITY,
        le=LARGEST_QUANTITY,
        description="How many are added, or with a minus taken away; not 0.",
        json_schema_extra={"not": {"const": 0}},
    )
    reason: Annotated[NotBlank, Field(min_length=1, max_length=LONGEST_REASON, description="For the history.")]

    @field_validator("delta")
    @classmethod
    def _changes_something(cls, delta: int) -> int:
        if delta == 0:
            raise ValueError("0 changes nothing")
        return delta


class ChangeRead(BaseModel):
    """One entry of a product's history."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": 7,
                    "product_id": 1,
                    "version": 2,
                    "action": "stock",
                    "changed_by": 1,
                    "changed_at": "2026-01-31T12:00:00.000000Z",
                    "reason": "sold",
                    "before": {"quantity": 12},
                    "after": {"quantity": 9},
                }
            ]
        },
    )

    id: int
    product_id: int
    version: int = Field(description="Of the product, after the change; of a deletion, the last one.")
    action: Literal["created", "changed", "stock", "deleted"]
    changed_by: int = Field(description="The account that made the change.")
    changed_at: datetime
    reason: str | None = Field(description="What was given with a change of the stock.")
    before: dict[str, str | int | None] | None = Field(description="The fields that changed; null for `created`.")
    after: dict[str, str | int | None] | None = Field(description="The same fields after it; null for `deleted`.")


class RefusedLineRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    line: int = Field(description="Where it begins in the file, counted from 1.")
    detail: str


class ImportReportRead(BaseModel):
    """What became of the lines of an import."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "created": 98,
                    "updated": 1,
                    "unchanged": 0,
                    "refused": 1,
                    "errors": [{"line": 7, "detail": "price: JPY has 0 decimals"}],
                }
            ]
        },
    )

    created: int
    updated: int
    unchanged: int = Field(description="Products that are as the file says already.")
    refused: int
    errors: list[RefusedLineRead] = Field(description="The first 1,000 of the refused lines.")


class UserServiceHealth(BaseModel):
    url: str
    status: Literal["ok", "unavailable"] = Field(description="Whether it answered; asked at most every 5 seconds.")
    breaker: Literal["closed", "open", "half-open"] = Field(
        description="`open`: protected requests are a 503 without asking it; `half-open`: one may ask, as a probe."
    )
    last_success: datetime | None = Field(
        description="When this process last had a token validated; null where it has not yet."
    )


class ProductServiceHealth(Health):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ok",
                    "service": "product-service",
                    "version": "0.1.0",
                    "database": "ok",
                    "user_service": {
                        "url": "http://localhost:8001",
                        "status": "ok",
                        "breaker": "closed",
                        "last_success": "2026-01-31T12:00:00.000000Z",
                    },
                }
            ]
        }
    )

    user_service: UserServiceHealth
