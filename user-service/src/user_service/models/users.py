"""Accounts."""

from datetime import datetime

from sqlalchemy import String, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from user_service.models.schema import Base
from user_service.usernames import LONGEST_USERNAME


class User(Numbered, Base):
    """An account."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("username_key"), NEVER_REUSE_IDS)

    username: Mapped[str] = mapped_column(String(LONGEST_USERNAME))
    # Names are unique without regard to case; the folded name is what is compared, and found by.
    username_key: Mapped[str] = mapped_column(String(LONGEST_USERNAME))
    password_hash: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool]
    is_admin: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def roles(self) -> list[str]:
        """What the account may do; every account is a user."""
        return ["user", "admin"] if self.is_admin else ["user"]
