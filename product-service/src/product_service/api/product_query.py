"""The query parameters of the product list, and the cursor of the next page."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from chassis.http.paging import CURSOR_SCHEMA, INVALID_CURSOR, Limit, Skip, read_cursor, write_cursor
from chassis.http.query_parameters import Flag, QueryParameters
from chassis.ids import LARGEST_ID, Digits
from chassis.text import Line
from chassis.times import format_time
from product_service.domain import money
from product_service.domain.criteria import Criteria, SortField
from product_service.domain.fields import MAX_QUANTITY, Category, CurrencyCode, Sku
from product_service.domain.labels import BLANK_AS_NULL
from product_service.domain.search_text import MAX_NAME_KEY_LENGTH, MAX_SEARCH_WORDS, count_search_words
from product_service.models import Product

MAX_CHOICES = 100
"""Values of a filter that is repeated."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_TIMESTAMP = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def _require_words(text: str) -> str:
    count = count_search_words(text)
    if not count:
        raise ValueError("Enter at least one letter or digit")
    if count > MAX_SEARCH_WORDS:
        raise ValueError(f"Enter at most {MAX_SEARCH_WORDS} words, not {count}")
    return text


Sort = Literal[
    "id", "name", "price", "quantity", "created_at", "updated_at",
    "-id", "-name", "-price", "-quantity", "-created_at", "-updated_at",
]  # fmt: skip
Search = Annotated[Line, Field(min_length=1, max_length=200), AfterValidator(_require_words)]
Amount = Annotated[Decimal, BeforeValidator(money.parse), WithJsonSchema({"type": "string", "pattern": money.PATTERN})]
OwnerId = Annotated[int, Field(ge=1, le=LARGEST_ID), Digits]
T = TypeVar("T", str, int)
AnyOf = Annotated[
    Annotated[list[T], Field(max_length=MAX_CHOICES)] | None,
    AfterValidator(lambda values: sorted(set(values) - {""}) or None if values else None),
]
"""Accepted values of a field. The order and duplicates have no meaning, so a cursor has them in a canonical form."""


def _parse_moment(text: object) -> datetime:
    try:
        if not (isinstance(text, str) and _MOMENT.fullmatch(text)):
            raise ValueError
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("A time looks like 2026-01-31T12:00:00Z or 2026-01-31T13:00:00%2B01:00") from None


_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE
)
Moment = Annotated[
    datetime,
    BeforeValidator(_parse_moment),
    PlainSerializer(format_time),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time of RFC 3339."""


class CriteriaQuery(QueryParameters):
    """The parameters that filter and sort products. All are optional."""

    sort: Sort | None = Field(
        default=None,
        description="The sort order, by `id` by default; `-` sorts in descending order. Ties are broken by id.",
    )
    q: Search | None = Field(
        default=None,
        description="Up to 8 words. Each must be the beginning of a word in the name, the description or the SKU; "
        "beside other words, a single letter must be a whole word.",
    )
    min_price: Amount | None = Field(default=None, description="Compared with the amount, whatever the currency.")
    max_price: Amount | None = Field(default=None, description="Compared with the amount, whatever the currency.")
    currency: AnyOf[CurrencyCode] = Field(
        default=None, description="Repeat it to find products in any of several currencies."
    )
    category: AnyOf[Category] = Field(
        default=None, description="Repeat it to find products of any of several categories."
    )
    sku: Annotated[Sku | None, BLANK_AS_NULL] = None
    in_stock: Flag | None = Field(default=None, description="`true` for products in stock, `false` for the others.")
    owner_id: AnyOf[OwnerId] = Field(default=None, description="Repeat it to find products of any of several owners.")
    updated_since: Moment | None = Field(
        default=None, description="Only products that were created or changed at this time or later; with a time zone."
    )

    @field_validator("max_price")
    @classmethod
    def _check_price_range(cls, max_price: Decimal | None, info: ValidationInfo) -> Decimal | None:
        min_price = info.data.get("min_price")
        if max_price is not None and min_price is not None and max_price < min_price:
            raise ValueError("Must not be less than min_price")
        return max_price

    @property
    def criteria(self) -> Criteria:
        return Criteria(
            sort=cast("SortField", (self.sort or "id").removeprefix("-")),
            descending=self.sort is not None and self.sort.startswith("-"),
            q=self.q,
            min_price=self.min_price,
            max_price=self.max_price,
            currency=self.currency,
            category=self.category,
            sku=self.sku,
            in_stock=self.in_stock,
            owner_id=self.owner_id,
            updated_since=self.updated_since,
        )

    def parameters(self) -> dict[str, Any]:
        """The filters and the sort order as query parameters."""
        return self.model_dump(mode="json", include=set(CriteriaQuery.model_fields), exclude_none=True)


def _parse_timestamp(microseconds: object) -> datetime:
    if type(microseconds) is not int or not 0 <= microseconds <= _MAX_TIMESTAMP:
        raise ValueError("Not a timestamp")
    return _EPOCH + microseconds * _MICROSECOND


# Cursors store timestamps as integers: exact, and with one representation each.
_Timestamp = Annotated[
    datetime, BeforeValidator(_parse_timestamp), PlainSerializer(lambda moment: (moment - _EPOCH) // _MICROSECOND)
]
_Id = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
_POSITIONS: dict[SortField, TypeAdapter[Any]] = {
    "id": TypeAdapter(tuple[_Id]),
    "name": TypeAdapter(tuple[Annotated[Line, Field(max_length=MAX_NAME_KEY_LENGTH)], _Id]),
    "price": TypeAdapter(tuple[Amount, _Id]),
    "quantity": TypeAdapter(tuple[Annotated[int, Field(strict=True, ge=0, le=MAX_QUANTITY)], _Id]),
    "created_at": TypeAdapter(tuple[_Timestamp, _Id]),
    "updated_at": TypeAdapter(tuple[_Timestamp, _Id]),
}
"""The position in a cursor, by sort field: the value and id of the last product on the page."""


class Cursor:
    """A position in a list. It is neither a model nor a dataclass, which FastAPI would add to the OpenAPI document."""

    def __init__(self, query: CriteriaQuery, after: tuple[Any, ...]) -> None:
        """:param after: the position of the last product on the previous page"""
        self.query = query
        self.after = after


class _CursorContent(CriteriaQuery):
    """The decoded content of a cursor."""

    after: Any

    @field_validator("after")
    @classmethod
    def _parse_position(cls, after: Any, info: ValidationInfo) -> tuple[Any, ...]:
        sort_field = CriteriaQuery(sort=info.data["sort"]).criteria.sort
        position: tuple[Any, ...] = _POSITIONS[sort_field].validate_python(after)
        return position


def _parse_cursor(cursor: str) -> Cursor:
    content = read_cursor(cursor)
    try:
        # Strict, because a cursor holds typed values; only query parameters are converted from text.
        parsed = _CursorContent.model_validate(content, strict=True)
    except (ValidationError, KeyError):
        raise ValueError(INVALID_CURSOR) from None
    return Cursor(parsed, parsed.after)


class ProductQuery(CriteriaQuery):
    limit: Limit = Field(default=20, description="Maximum number of products to return.")
    skip: Skip | None = Field(default=None, description="Number of products to skip. Cannot be combined with `cursor`.")
    count: Flag | None = Field(
        default=None, description="Whether to return the number of matching products, up to 10,000, in `X-Total-Count`."
    )
    # Declared last, so that its validator can compare it with the other parameters.
    cursor: Annotated[Cursor, PlainValidator(_parse_cursor), WithJsonSchema(CURSOR_SCHEMA)] | None = Field(
        default=None,
        description="The position of the next page, from the `Link` header. It includes the filters and the sort "
        "order; if these are sent as well, they must be the same.",
    )

    @field_validator("cursor")
    @classmethod
    def _check_consistency(cls, cursor: Cursor | None, info: ValidationInfo) -> Cursor | None:
        if cursor is None:
            return None
        if info.data.get("skip") is not None:
            raise ValueError("Send either skip or cursor, not both")
        for name in CriteriaQuery.model_fields:
            given, used = info.data.get(name), getattr(cursor.query, name)
            if name == "sort" and used is None:
                used = "id"
            if given is not None and given != used:
                raise ValueError(
                    f"This cursor was created with a different {name}; omit {name}, or send the same value"
                )
        return cursor

    @property
    def selection(self) -> CriteriaQuery:
        """The filters and the sort order, from the cursor if there is one."""
        return self.cursor.query if self.cursor else self

    def first_page(self) -> dict[str, Any]:
        """The parameters of the first page."""
        return {**self.selection.parameters(), **self._page_parameters()}

    def next_page(self, last: Product) -> dict[str, Any]:
        """The parameters of the page after this product."""
        criteria = self.selection.criteria
        after = _POSITIONS[criteria.sort].dump_python(criteria.position(last), mode="json")
        return {**self._page_parameters(), "cursor": write_cursor({**self.selection.parameters(), "after": after})}

    def _page_parameters(self) -> dict[str, Any]:
        return self.model_dump(include={"limit", "count"}, exclude_none=True)
