"""What was answered to a request with an Idempotency-Key."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from product_service.models.schema import Base

LONGEST_KEY = 255
LONGEST_PATH = 255


class KeptAnswer(Numbered, Base):
    """The answer to one request, kept for whoever sends it again; until the work is done, an empty one."""

    __tablename__ = "kept_answers"
    __table_args__ = (UniqueConstraint("caller_id", "key", "method", "path"), NEVER_REUSE_IDS)

    caller_id: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(LONGEST_KEY))
    method: Mapped[str] = mapped_column(String(10))
    path: Mapped[str] = mapped_column(String(LONGEST_PATH))
    request_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(index=True)
    status: Mapped[int] = mapped_column(Integer)
    headers: Mapped[dict[str, Any]] = mapped_column(JSON)
    body: Mapped[str] = mapped_column(Text)
