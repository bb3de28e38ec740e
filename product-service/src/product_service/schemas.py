"""Request and response bodies. The editable fields of a product are declared in `domain.fields`."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model, field_validator
from pydantic_core import PydanticUndefined

from chassis.errors import FieldError, Invalid
from chassis.ids import LARGEST_ID
from chassis.text import NotBlank
from chassis.times import Time
from chassis.validation import error_message
from product_service.domain.fields import (
    DEFAULTS,
    EDITABLE_FIELDS,
    EXAMPLE,
    MAX_QUANTITY,
    OUTPUT_TYPES,
    REQUIRED_FIELDS,
    ProductFields,
    snapshot,
)
from product_service.domain.history import MAX_REASON_LENGTH, Action

if TYPE_CHECKING:
    from product_service.models import Product

M = TypeVar("M", bound=BaseModel)


class ProductCreate(ProductFields):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


def _unset() -> Any:
    """The default of fields that can be omitted but not null; `model_fields_set` holds the fields that were sent."""


def _make_optional(model: type[M]) -> type[M]:
    """Make every field optional, with the default `_unset`."""
    for field in model.model_fields.values():
        field.default, field.default_factory = PydanticUndefined, _unset
    model.model_rebuild(force=True)
    return model


@_make_optional
class ProductLine(ProductFields):
    """One product of an imported file: sets the fields that are sent. Null clears the nullable ones."""

    id: Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]

    @property
    def sent(self) -> dict[str, Any]:
        """The fields that were sent, in the order of their declaration."""
        names = self.model_fields_set
        return {name: value for name, value in self.__dict__.items() if name in names}

    def complete(self) -> dict[str, Any]:
        """The editable fields of the product that this creates. Raises Invalid if one is missing."""
        sent = self.sent
        if not sent.keys() >= REQUIRED_FIELDS:
            missing = (name for name in EDITABLE_FIELDS if name in REQUIRED_FIELDS and name not in sent)
            raise Invalid([FieldError(f"/{name}", error_message({"type": "missing"})) for name in missing])
        return DEFAULTS | sent


ReadOnly = Field(json_schema_extra={"readOnly": True})


@_make_optional
class ProductPatch(ProductLine):
    """Sets the fields that are sent. Null clears the nullable ones.

    The read-only fields may be sent as they were read, so a client can send back the whole product.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"price": "79.90", "quantity": 30}]})

    id: Annotated[int, Field(strict=True), ReadOnly]
    owner_id: Annotated[int, Field(strict=True), ReadOnly]
    version: Annotated[int, Field(strict=True), ReadOnly]
    created_at: Annotated[datetime, ReadOnly]
    updated_at: Annotated[datetime, ReadOnly]


class _WithId(BaseModel):
    id: int


if TYPE_CHECKING:
    _ProductOutput = _WithId
else:
    _ProductOutput = create_model(
        "_ProductOutput", __base__=_WithId, **{name: (type_, ...) for name, type_ in OUTPUT_TYPES.items()}
    )


class ProductRead(_ProductOutput):
    """A product: its id, the editable fields, and the fields that the service maintains."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 1,
                    **EXAMPLE,
                    "sku": "KB-87-BLK",
                    "owner_id": 1,
                    "version": 1,
                    "created_at": "2026-01-31T12:00:00.000000Z",
                    "updated_at": "2026-01-31T12:00:00.000000Z",
                }
            ]
        }
    )

    owner_id: int
    version: int = Field(description="Incremented with every change.")
    created_at: Time
    updated_at: Time

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
        ge=-MAX_QUANTITY,
        le=MAX_QUANTITY,
        description="The amount to add, or, if negative, to remove. Must not be 0.",
        json_schema_extra={"not": {"const": 0}},
    )
    reason: Annotated[
        NotBlank, Field(min_length=1, max_length=MAX_REASON_LENGTH, description="Recorded in the history.")
    ]

    @field_validator("delta")
    @classmethod
    def _not_zero(cls, delta: int) -> int:
        if delta == 0:
            raise ValueError("Must not be 0")
        return delta


class ChangedFields(RootModel[dict[str, str | int | None]]):
    """Fields of a product, by name."""


class ProductChange(BaseModel):
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
    version: int = Field(description="The version of the product after the change; for a deletion, its last version.")
    action: Action
    changed_by: int = Field(description="The id of the account that made the change; 0 for an update of the service.")
    changed_at: Time
    reason: str | None = Field(description="The reason given with a stock adjustment.")
    before: ChangedFields | None = Field(description="The changed fields before the change; null for `created`.")
    after: ChangedFields | None = Field(description="The same fields after the change; null for `deleted`.")


class RefusedLine(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    line: int = Field(description="The number of its first line in the file, starting at 1.")
    detail: str


class FileLayout(BaseModel):
    """How the file was read."""

    model_config = ConfigDict(from_attributes=True)

    delimiter: str | None = Field(description="What separates the cells: `,`, `;`, `tab` or `|`. Null for NDJSON.")
    decimal: str | None = Field(
        description="The decimal sign of the prices. Null for NDJSON, and if no price has decimals."
    )
    ignored_columns: list[str] = Field(
        description="The first 100 unknown columns that were skipped, with `unknown_columns=ignore`."
    )


class ImportReport(BaseModel):
    """The result of an import."""

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
                    "file": {"delimiter": ";", "decimal": ",", "ignored_columns": []},
                }
            ]
        },
    )

    created: int
    updated: int
    unchanged: int = Field(description="Products that already match the file.")
    refused: int
    errors: list[RefusedLine] = Field(description="The first 1,000 refused lines.")
    file: FileLayout
