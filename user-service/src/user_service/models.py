"""The tables of the user service."""

from datetime import datetime

from sqlalchemy import MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.models import COLUMN_TYPES, NAMING_CONVENTION, NEVER_REUSE_IDS, Numbered

LONGEST_USERNAME = 50


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = COLUMN_TYPES


class User(Numbered, Base):
    """An account."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("username_key"), NEVER_REUSE_IDS)

    username: Mapped[str] = mapped_column(String(LONGEST_USERNAME))
    # Names are unique without regard to case; the folded name is what is compared, and found by.
    username_key: Mapped[str] = mapped_column(String(LONGEST_USERNAME))
    password_hash: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def roles(self) -> list[str]:
        """What the account may do; every account is a user."""
        return ["user"]
