"""Products."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Connection,
    Dialect,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    event,
    inspect,
)
from sqlalchemy.orm import Mapped, Mapper, mapped_column
from sqlalchemy.types import TypeDecorator

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from product_service.domain import money
from product_service.domain.fields import (
    MAX_CATEGORY_LENGTH,
    MAX_NAME_LENGTH,
    MAX_SKU_LENGTH,
)
from product_service.domain.search_text import MAX_NAME_KEY_LENGTH, fold, name_key, split_words
from product_service.models.schema import Base

SEARCHED = frozenset(("name", "description", "sku"))
"""The fields that a search looks in."""

UNMAPPED_OBJECTS = frozenset(
    {
        *("search", "ix_products_search"),
        *("products_search", "products_search_data", "products_search_idx", "products_search_config"),
    }
)
"""Database objects that migrations create for the search, and that no model maps.

On PostgreSQL a column and its index, on SQLite a virtual table.
"""


class ExactDecimal(TypeDecorator[Decimal]):
    """An amount, stored as an integer number of ten-thousandths: SQLite would store a NUMERIC as a float."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value * money.SCALE)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value) / money.SCALE


class Product(Numbered, Base):
    """A product in the catalogue. `owner_id` is an account of the user service, which has its own database."""

    __tablename__ = "products"
    __table_args__ = (
        UniqueConstraint("sku"),
        CheckConstraint("price > 0", name="price_is_positive"),
        CheckConstraint("quantity >= 0", name="quantity_is_not_negative"),
        # One per sort order. Including the id, the tiebreaker, makes each index usable in both directions.
        Index(None, "name_key", "id"),
        Index(None, "price", "id"),
        Index(None, "quantity", "id"),
        Index(None, "created_at", "id"),
        Index(None, "updated_at", "id"),
        Index(None, "owner_id", "id"),
        Index(None, "category", "id"),
        NEVER_REUSE_IDS,
    )

    # The editable fields, as declared in `domain.fields`.
    name: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH))
    # SQLite ignores lengths, and would have to rebuild the table for another type.
    description: Mapped[str | None] = mapped_column(Text().with_variant(String(1000), "sqlite"))
    price: Mapped[Decimal] = mapped_column(ExactDecimal)
    currency: Mapped[str] = mapped_column(String(3))
    quantity: Mapped[int] = mapped_column(Integer)
    sku: Mapped[str | None] = mapped_column(String(MAX_SKU_LENGTH))
    category: Mapped[str | None] = mapped_column(String(MAX_CATEGORY_LENGTH))

    owner_id: Mapped[int] = mapped_column(BigInteger)
    # Incremented with every change, for optimistic locking.
    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    # The sort key for names, compared byte by byte on both databases.
    name_key: Mapped[str] = mapped_column(
        String(MAX_NAME_KEY_LENGTH).with_variant(String(MAX_NAME_KEY_LENGTH, collation="C"), "postgresql")
    )
    # The words of the searched fields, separated by spaces. Only the search index uses them.
    words: Mapped[str] = mapped_column(Text, deferred=True)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy declares it so


@event.listens_for(Product, "before_insert")
def _set_search_columns(_mapper: Mapper[Product], _connection: Connection, product: Product) -> None:
    product.name_key, product.words = search_columns(product.name, product.description, product.sku)


@event.listens_for(Product, "before_update")
def _update_search_columns(mapper: Mapper[Product], connection: Connection, product: Product) -> None:
    attributes = inspect(product).attrs
    if any(attributes[name].history.has_changes() for name in SEARCHED):
        _set_search_columns(mapper, connection, product)


def search_columns(name: str, description: str | None, sku: str | None) -> tuple[str, str]:
    """The values of `name_key` and `words`, for statements that bypass the model."""
    folded_name = fold(name)
    return name_key(folded_name), " ".join(split_words(folded_name, fold(description or ""), fold(sku or "")))
