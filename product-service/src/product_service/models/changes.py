"""The history of products."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from product_service.domain.history import MAX_REASON_LENGTH, Action
from product_service.models.schema import Base


class ProductChange(Numbered, Base):
    """One change of a product. It has no foreign key to the product, because it outlives it."""

    __tablename__ = "changes"
    __table_args__ = (Index(None, "product_id", "id"), NEVER_REUSE_IDS)

    product_id: Mapped[int] = mapped_column(BigInteger)
    owner_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(Integer)
    action: Mapped[Action] = mapped_column(String(10))
    changed_by: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime]
    reason: Mapped[str | None] = mapped_column(String(MAX_REASON_LENGTH))
    # The changed fields, as clients see them; null before the creation and after the deletion.
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
