"""What crosses the wire of the product service. The editable fields of a product are declared in `domain.fields`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator
from pydantic_core import PydanticUndefined

from chassis.text import NotBlank
from product_service.domain.fields import LARGEST_QUANTITY, SHOWN_TYPES, ProductFields, snapshot
from product_service.domain.history import LONGEST_REASON, Action

if TYPE_CHECKING:
    from product_service.models import Product

M = TypeVar("M", bound=BaseModel)


_EXAMPLE: dict[str, Any] = {
    "name": "Mechanical keyboard",
    "description": "Eighty-seven keys, hot-swappable switches.",
    "price": "89.90",
    "currency": "USD",
    "quantity": 12,
    "sku": "KB-87-BLK",
    "category": "peripherals",
}


class ProductCreate(ProductFields):
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


def _unset() -> Any:
    """The default of a field that may be left out, but not be null; `model_fields_set` tells whether it was sent."""


def _may_be_left_out(model: type[M]) -> type[M]:
    """Give every field of the model the default `_unset`."""
    for field in model.model_fields.values():
        field.default, field.default_factory = PydanticUndefined, _unset
    model.model_rebuild(force=True)
    return model


@_may_be_left_out
class ProductPatch(ProductFields):
    """The fields that are sent are set; null clears those that may be empty."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"price": "79.90", "quantity": 30}]})


class _Numbered(BaseModel):
    id: int


if TYPE_CHECKING:
    _Shown = _Numbered
else:
    _Shown = create_model("_Shown", __base__=_Numbered, **{name: (each, ...) for name, each in SHOWN_TYPES.items()})


class ProductRead(_Shown):
    """A product, as clients see it: its id, the editable fields, and what the service keeps of it."""

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

    owner_id: int
    version: int = Field(description="Counts the changes.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, product: "Product") -> Self:
        return cls.model_validate(
            {
                "id": product.id,
                **snapshot(product),
                "owner_id": product.owner_id,
                "version": product.version,
                "created_at": product.created_at,
                "updated_at": product.updated_at,
            }
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
    action: Action
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
