"""The history of products: who changed what, and when."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from product_service.domain.history import LONGEST_REASON, Action
from product_service.models.schema import Base


class ProductChange(Numbered, Base):
    """One change of a product. It refers to the product by number alone, because it outlives it."""

    __tablename__ = "changes"
    __table_args__ = (Index(None, "product_id", "id"), NEVER_REUSE_IDS)

    product_id: Mapped[int] = mapped_column(BigInteger)
    owner_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(Integer)
    action: Mapped[Action] = mapped_column(String(10))
    changed_by: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime]
    reason: Mapped[str | None] = mapped_column(String(LONGEST_REASON))
    # The fields that changed, as clients see them; null where there was no product before, or is none after.
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
