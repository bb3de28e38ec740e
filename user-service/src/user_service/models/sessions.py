"""Sessions: what stands behind every token, so that a token can be taken back."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from user_service.models.schema import Base

LONGEST_USER_AGENT = 255
LONGEST_ADDRESS = 45  # characters of an IPv6 address that ends like an IPv4 one


class Session(Numbered, Base):
    """A login that goes on until it is ended or expires. What is over has no row."""

    __tablename__ = "sessions"
    __table_args__ = NEVER_REUSE_IDS

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    user_agent: Mapped[str | None] = mapped_column(String(LONGEST_USER_AGENT))
    ip: Mapped[str | None] = mapped_column(String(LONGEST_ADDRESS))
    # Hashes of what all refresh tokens of the session have in common, of the one in use, and of the one that it
    # replaced at `refreshed_at`.
    family_hash: Mapped[str] = mapped_column(String(64))
    refresh_hash: Mapped[str] = mapped_column(String(64))
    previous_hash: Mapped[str | None] = mapped_column(String(64))
    refreshed_at: Mapped[datetime | None]
