"""Accounts."""

from datetime import datetime

from sqlalchemy import Index, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from chassis.database.models import NEVER_REUSE_IDS, Numbered
from user_service.models.schema import Base
from user_service.usernames import MAX_USERNAME_LENGTH


class User(Numbered, Base):
    """An account."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("username_key"),
        # The few admins among all accounts. The conditions are those of statements, because SQLite compares the text.
        Index("ix_users_admins", "id", postgresql_where=text("is_admin"), sqlite_where=text("is_admin = 1")),
        NEVER_REUSE_IDS,
    )

    username: Mapped[str] = mapped_column(String(MAX_USERNAME_LENGTH))
    # Usernames are case-insensitive: lookups and the unique constraint use this folded form.
    username_key: Mapped[str] = mapped_column(String(MAX_USERNAME_LENGTH))
    password_hash: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool]
    is_admin: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
