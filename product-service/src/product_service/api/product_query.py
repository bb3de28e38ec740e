"""The query parameters of the list of products, and the cursor that continues the same query."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, cast

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

from chassis.http.paging import INVALID_CURSOR, Limit, Skip, read_cursor, write_cursor
from chassis.http.routing import QueryParameters
from chassis.ids import LARGEST_ID, Digits
from chassis.text import Line
from product_service.domain import money
from product_service.domain.criteria import Criteria, SortField
from product_service.domain.fields import LARGEST_QUANTITY, Category, CurrencyCode
from product_service.domain.search_text import LONGEST_NAME_KEY, words
from product_service.models import Product

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_MOMENT = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def _with_words(text: str) -> str:
    if not words(text):
        raise ValueError("There is no word in it: no letter and no digit")
    return text


Sort = Literal[
    "id", "name", "price", "quantity", "created_at", "updated_at",
    "-id", "-name", "-price", "-quantity", "-created_at", "-updated_at",
]  # fmt: skip
Search = Annotated[Line, Field(min_length=1, max_length=200), AfterValidator(_with_words)]
Amount = Annotated[Decimal, BeforeValidator(money.parse), WithJsonSchema({"type": "string", "pattern": money.PATTERN})]
OwnerId = Annotated[int, Field(ge=1, le=LARGEST_ID), Digits]
Flag = Literal["true", "false"]


class CriteriaQuery(QueryParameters):
    """The parameters that select and sort products; those left out leave a question open."""

    sort: Sort | None = Field(
        default=None, description="The order, by id if left out; `-` for descending. Equal ones are sorted by id."
    )
    q: Search | None = Field(
        default=None, description="Words, each of which has to begin a word of the name or the description."
    )
    min_price: Amount | None = Field(default=None, description="Compared with the printed number of any currency.")
    max_price: Amount | None = Field(default=None, description="Compared with the printed number of any currency.")
    currency: CurrencyCode | None = None
    category: Category | None = None
    in_stock: Flag | None = Field(default=None, description="Whether there is at least one of it.")
    owner_id: OwnerId | None = None

    @field_validator("max_price")
    @classmethod
    def _not_below_min_price(cls, max_price: Decimal | None, others: ValidationInfo) -> Decimal | None:
        min_price = others.data.get("min_price")
        if max_price is not None and min_price is not None and max_price < min_price:
            raise ValueError("This is below min_price")
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
            in_stock=None if self.in_stock is None else self.in_stock == "true",
            owner_id=self.owner_id,
        )

    def parameters(self) -> dict[str, Any]:
        """The same as parameters of a query."""
        return self.model_dump(mode="json", include=set(CriteriaQuery.model_fields), exclude_none=True)


def _moment(microseconds: object) -> datetime:
    if type(microseconds) is not int or not 0 <= microseconds <= _LAST_MOMENT:
        raise ValueError("This is no moment")
    return _EPOCH + microseconds * _MICROSECOND


# A cursor's moments are whole numbers: nothing is lost on the way, and there is one way to write each.
_Moment = Annotated[
    datetime, BeforeValidator(_moment), PlainSerializer(lambda moment: (moment - _EPOCH) // _MICROSECOND)
]
_Id = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
_POSITIONS: dict[SortField, TypeAdapter[Any]] = {
    "id": TypeAdapter(tuple[_Id]),
    "name": TypeAdapter(tuple[Annotated[Line, Field(max_length=LONGEST_NAME_KEY)], _Id]),
    "price": TypeAdapter(tuple[Amount, _Id]),
    "quantity": TypeAdapter(tuple[Annotated[int, Field(strict=True, ge=0, le=LARGEST_QUANTITY)], _Id]),
    "created_at": TypeAdapter(tuple[_Moment, _Id]),
    "updated_at": TypeAdapter(tuple[_Moment, _Id]),
}
"""What a cursor has of the last product of a page, by the order: its value there and its id."""


class Cursor:
    """A place in a list, behind which the next page begins. As a model or dataclass it would be in the document."""

    def __init__(self, query: CriteriaQuery, after: tuple[Any, ...]) -> None:
        """:param after: what the last product of the page before had in the columns of the order"""
        self.query = query
        self.after = after


class _Content(CriteriaQuery):
    """What is written in a cursor."""

    after: Any

    @field_validator("after")
    @classmethod
    def _in_the_columns_of_the_order(cls, after: Any, others: ValidationInfo) -> tuple[Any, ...]:
        order = CriteriaQuery(sort=others.data["sort"]).criteria.sort
        position: tuple[Any, ...] = _POSITIONS[order].validate_python(after)
        return position


def _read(cursor: str) -> Cursor:
    content = read_cursor(cursor)
    try:
        # Strictly: a query has but text, from which numbers are read; a cursor has what was written.
        read = _Content.model_validate(content, strict=True)
    except (ValidationError, KeyError):
        raise ValueError(INVALID_CURSOR) from None
    return Cursor(read, read.after)


class ProductQuery(CriteriaQuery):
    limit: Limit = Field(default=20, description="Products to answer at most.")
    skip: Skip | None = Field(default=None, description="Products to leave out; not together with `cursor`.")
    count: Flag | None = Field(default=None, description="Whether to tell how many there are, in `X-Total-Count`.")
    # Behind all others, so that it can be compared with them.
    cursor: Annotated[Cursor, PlainValidator(_read), WithJsonSchema({"type": "string"})] | None = Field(
        default=None,
        description="Where to go on; from the `Link` of the page before. It says how to sort and what to look for, "
        "which may be said again, but not otherwise.",
    )

    @field_validator("cursor")
    @classmethod
    def _agrees_with_the_others(cls, cursor: Cursor | None, others: ValidationInfo) -> Cursor | None:
        if cursor is None:
            return None
        if others.data.get("skip") is not None:
            raise ValueError("Either skip or a cursor, but not both")
        for name in CriteriaQuery.model_fields:
            given = others.data.get(name)
            if given is not None and given != (getattr(cursor.query, name) or ("id" if name == "sort" else None)):
                raise ValueError(f"This cursor was made with another {name}; leave that out, or give the same")
        return cursor

    @property
    def selection(self) -> CriteriaQuery:
        """What is asked for, whether the parameters say it or the cursor does."""
        return self.cursor.query if self.cursor else self

    def first(self) -> dict[str, Any]:
        """The parameters of the first page."""
        return {**self.selection.parameters(), **self._same_for_every_page()}

    def next(self, last: Product) -> dict[str, Any]:
        """The parameters of the page that begins behind this product."""
        criteria = self.selection.criteria
        after = _POSITIONS[criteria.sort].dump_python(criteria.position(last), mode="json")
        return {**self._same_for_every_page(), "cursor": write_cursor({**self.selection.parameters(), "after": after})}

    def _same_for_every_page(self) -> dict[str, Any]:
        return self.model_dump(include={"limit", "count"}, exclude_none=True)
