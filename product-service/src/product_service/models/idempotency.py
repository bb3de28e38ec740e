"""Requests with an Idempotency-Key, and their responses."""

from datetime import datetime

from sqlalchemy import BigInteger, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from product_service.domain.idempotency import MAX_KEY_LENGTH
from product_service.models.schema import Base

MAX_OPERATION_LENGTH = 50


class IdempotencyRecord(Numbered, Base):
    """A request that was executed, and its response body, for a client that repeats it."""

    __tablename__ = "idempotency_records"
    __table_args__ = (UniqueConstraint("caller_id", "key", "operation"), NEVER_REUSE_IDS)

    caller_id: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(MAX_KEY_LENGTH))
    operation: Mapped[str] = mapped_column(String(MAX_OPERATION_LENGTH))
    fingerprint: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(index=True)
    body: Mapped[str] = mapped_column(Text)
