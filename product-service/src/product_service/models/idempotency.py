"""Requests with an Idempotency-Key, and their answers."""

from datetime import datetime

from sqlalchemy import BigInteger, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from product_service.domain.idempotency import LONGEST_KEY
from product_service.models.schema import Base

LONGEST_OPERATION = 50


class IdempotencyRecord(Numbered, Base):
    """A request that was carried out, and the body of its answer, for a client that sends it again."""

    __tablename__ = "idempotency_records"
    __table_args__ = (UniqueConstraint("caller_id", "key", "operation"), NEVER_REUSE_IDS)

    caller_id: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(LONGEST_KEY))
    operation: Mapped[str] = mapped_column(String(LONGEST_OPERATION))
    fingerprint: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(index=True)
    body: Mapped[str] = mapped_column(Text)
