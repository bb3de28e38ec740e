"""Products."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Dialect, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from chassis.models import NEVER_REUSE_IDS, Numbered
from product_service import money
from product_service.models.schema import Base

LONGEST_NAME = 255
LONGEST_DESCRIPTION = 1000
LONGEST_SKU = 64
LONGEST_CATEGORY = 100
LARGEST_QUANTITY = 2**31 - 1


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
        NEVER_REUSE_IDS,
    )

    name: Mapped[str] = mapped_column(String(LONGEST_NAME))
    description: Mapped[str | None] = mapped_column(String(LONGEST_DESCRIPTION))
    price: Mapped[Decimal] = mapped_column(Money)
    currency: Mapped[str] = mapped_column(String(3))
    quantity: Mapped[int] = mapped_column(Integer)
    sku: Mapped[str | None] = mapped_column(String(LONGEST_SKU))
    category: Mapped[str | None] = mapped_column(String(LONGEST_CATEGORY))
    owner_id: Mapped[int] = mapped_column(BigInteger, index=True)
    # Counts the changes, so that a reader can tell two states of a product apart.
    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it

    @property
    def facts(self) -> dict[str, Any]:
        """What people say of the product, as clients see it."""
        return {
            "name": self.name,
            "description": self.description,
            "price": money.written(self.price, self.currency),
            "currency": self.currency,
            "quantity": self.quantity,
            "sku": self.sku,
            "category": self.category,
        }
