"""Products."""

from datetime import datetime
from decimal import Decimal
from typing import Any

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
from product_service.domain import fields, money
from product_service.domain.fields import LONGEST_CATEGORY, LONGEST_DESCRIPTION, LONGEST_NAME, LONGEST_SKU
from product_service.domain.search_text import LONGEST_NAME_KEY, folded, words
from product_service.models.schema import Base

MADE_BY_MIGRATIONS = frozenset(
    {
        *("search", "ix_products_search"),
        *("products_search", "products_search_data", "products_search_idx", "products_search_config"),
    }
)
"""For the search, and of one database alone: a column and its index of PostgreSQL, a virtual table of SQLite."""


class Money(TypeDecorator[Decimal]):
    """An amount, stored as a whole number of ten-thousandths: SQLite would keep a NUMERIC as a float."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value * money.SCALE)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value) / money.SCALE


class Product(Numbered, Base):
    """A product in the catalogue. Its owner is an account of the user service, which this database does not know."""

    __tablename__ = "products"
    __table_args__ = (
        UniqueConstraint("sku"),
        CheckConstraint("price > 0", name="price_is_positive"),
        CheckConstraint("quantity >= 0", name="quantity_is_not_negative"),
        # One for each order; the id, which decides between equals, makes it serve both directions.
        Index(None, "name_key", "id"),
        Index(None, "price", "id"),
        Index(None, "quantity", "id"),
        Index(None, "created_at", "id"),
        Index(None, "updated_at", "id"),
        Index(None, "owner_id", "id"),
        Index(None, "category", "id"),
        NEVER_REUSE_IDS,
    )

    # The editable fields, which `domain.fields` declares.
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    description: Mapped[str | None] = mapped_column(String(LONGEST_DESCRIPTION))
    price: Mapped[Decimal] = mapped_column(Money)
    currency: Mapped[str] = mapped_column(String(3))
    quantity: Mapped[int] = mapped_column(Integer)
    sku: Mapped[str | None] = mapped_column(String(LONGEST_SKU))
    category: Mapped[str | None] = mapped_column(String(LONGEST_CATEGORY))

    owner_id: Mapped[int] = mapped_column(BigInteger)
    # Counts the changes, so that a reader can tell two states of a product apart.
    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    # What the list is sorted by as the name, byte by byte on both databases.
    name_key: Mapped[str] = mapped_column(
        String(LONGEST_NAME_KEY).with_variant(String(LONGEST_NAME_KEY, collation="C"), "postgresql")
    )
    # What the search looks at: the words of name and description, with spaces between them. Nobody reads it back.
    words: Mapped[str] = mapped_column(Text, deferred=True)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it

    @property
    def snapshot(self) -> dict[str, Any]:
        """The editable fields, as clients see them."""
        return fields.snapshot(self)


@event.listens_for(Product, "before_insert")
def _derive(_mapper: Mapper[Product], _connection: Connection, product: Product) -> None:
    """Set what the list is sorted by and what the search looks at."""
    product.name_key, product.words = derived(product.name, product.description)


@event.listens_for(Product, "before_update")
def _derive_again(mapper: Mapper[Product], connection: Connection, product: Product) -> None:
    attributes = inspect(product).attrs
    if attributes.name.history.has_changes() or attributes.description.history.has_changes():
        _derive(mapper, connection, product)


def derived(name: str, description: str | None) -> tuple[str, str]:
    """What `name_key` and `words` are for this name and description; for statements that go around the model."""
    return folded(name)[:LONGEST_NAME_KEY], " ".join(words(name, description))
