"""Sessions. Every token belongs to one, so deleting the row revokes the token."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from user_service.models.schema import Base

MAX_USER_AGENT_LENGTH = 255
MAX_IP_LENGTH = 45  # an IPv6 address with an embedded IPv4 address


class Session(Numbered, Base):
    """A login, active until it is revoked or expires. Revoked sessions have no row."""

    __tablename__ = "sessions"
    # With the id, so that a page of an account's sessions is read in order.
    __table_args__ = (Index(None, "user_id", "id"), NEVER_REUSE_IDS)

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    user_agent: Mapped[str | None] = mapped_column(String(MAX_USER_AGENT_LENGTH))
    ip: Mapped[str | None] = mapped_column(String(MAX_IP_LENGTH))
    # Of the last refresh, at `refreshed_at`.
    refresh_user_agent: Mapped[str | None] = mapped_column(String(MAX_USER_AGENT_LENGTH))
    refresh_ip: Mapped[str | None] = mapped_column(String(MAX_IP_LENGTH))
    # Hashes of the token family, of the current refresh token, and of the token that it replaced at `refreshed_at`.
    family_hash: Mapped[str] = mapped_column(String(64))
    refresh_hash: Mapped[str] = mapped_column(String(64))
    previous_hash: Mapped[str | None] = mapped_column(String(64))
    refreshed_at: Mapped[datetime | None]
