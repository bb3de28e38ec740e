"""Products."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Dialect, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, validates
from sqlalchemy.types import TypeDecorator

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from product_service.domain import money
from product_service.domain.search_text import folded, words
from product_service.models.schema import Base

LONGEST_NAME = 255
LONGEST_DESCRIPTION = 1000
LONGEST_SKU = 64
LONGEST_CATEGORY = 100
LARGEST_QUANTITY = 2**31 - 1
# In characters of up to 4 bytes; folding may make 18 of one, and PostgreSQL indexes no value over 2704 bytes.
LONGEST_NAME_KEY = 255

FACTS = ("name", "description", "price", "currency", "quantity", "sku", "category")
"""What people say of a product: the attributes that are theirs to change."""

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
    def facts(self) -> dict[str, Any]:
        """What people say of the product, as clients see it."""
        return {**{name: getattr(self, name) for name in FACTS}, "price": money.written(self.price, self.currency)}

    @validates("name", "description")
    def _derive(self, field: str, text: str | None) -> str | None:
        """Bring what is sorted and searched up to date; statements that go around the model use `derived` for it."""
        name, description = (text, self.description) if field == "name" else (self.name, text)
        self.name_key, self.words = derived(name or "", description)
        return text


def derived(name: str, description: str | None) -> tuple[str, str]:
    """What `name_key` and `words` are for a product with this name and description."""
    return folded(name)[:LONGEST_NAME_KEY], " ".join(words(name, description))
