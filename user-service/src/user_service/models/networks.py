"""The networks that accounts have been used from."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from user_service.models.schema import Base
from user_service.models.sessions import MAX_IP_LENGTH


class KnownNetwork(Numbered, Base):
    """A network from which an account has logged in. It outlives the session, so that the next login is known."""

    __tablename__ = "known_networks"
    __table_args__ = (UniqueConstraint("user_id", "network"), NEVER_REUSE_IDS)

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    network: Mapped[str] = mapped_column(String(MAX_IP_LENGTH))
    last_login_at: Mapped[datetime] = mapped_column(index=True)
