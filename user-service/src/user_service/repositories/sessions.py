"""Repository for sessions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, bindparam, delete, select

from chassis.database.repository import BaseRepository
from user_service.models import Session, User

# Every token validation needs it, so it is built once.
_ACTIVE_USER = (
    select(User)
    .join(Session, Session.user_id == User.id)
    .where(
        Session.id == bindparam("session_id"),
        User.id == bindparam("user_id"),
        Session.expires_at > bindparam("now"),
        User.is_active,
    )
)


class SessionRepository(BaseRepository[Session]):
    model = Session

    def find_user(self, session_id: int, user_id: int, now: datetime) -> User | None:
        """The account, in one query, if both it and its session are active."""
        parameters = {"session_id": session_id, "user_id": user_id, "now": now}
        return self._session.scalars(_ACTIVE_USER, parameters).one_or_none()

    def list_active(
        self, user_id: int, now: datetime, limit: int, *, before: int | None = None, except_id: int | None = None
    ) -> Sequence[Session]:
        """Up to `limit` active sessions of an account, newest first.

        :param before: the id of the last session of the previous page
        :param except_id: a session to leave out
        """
        conditions = [Session.user_id == user_id, Session.expires_at > now]
        if except_id is not None:
            conditions.append(Session.id != except_id)
        return self.page(limit, *conditions, descending=True, after=None if before is None else (before,))

    def find_active(self, session_id: int, user_id: int, now: datetime) -> Session | None:
        """This session of this account, if it is active."""
        statement = self.base().where(Session.id == session_id, Session.user_id == user_id, Session.expires_at > now)
        return self._one(statement)

    def create(
        self, user_id: int, now: datetime, expires_at: datetime, user_agent: str | None, ip: str | None
    ) -> Session:
        """Insert a session. The caller sets the token hashes, because the first token contains the session's id."""
        return self.add(
            Session(
                user_id=user_id,
                created_at=now,
                last_used_at=now,
                expires_at=expires_at,
                user_agent=user_agent,
                ip=ip,
                family_hash="",
                refresh_hash="",
            )
        )

    def revoke(self, session_id: int, user_id: int) -> bool:
        """Revoke this session of this account; false if it doesn't exist."""
        statement = delete(Session).where(Session.id == session_id, Session.user_id == user_id).returning(Session.id)
        return self._session.scalar(statement) is not None

    def revoke_all(self, user_id: int, *, except_id: int | None = None) -> int:
        """Revoke all sessions of an account except `except_id`; returns how many."""
        statement = delete(Session).where(Session.user_id == user_id)
        result = self._session.execute(statement if except_id is None else statement.where(Session.id != except_id))
        return cast("CursorResult[Any]", result).rowcount

    def revoke_oldest(self, user_id: int, now: datetime, *, keep: int) -> Sequence[int]:
        """Revoke all active sessions of an account except the newest; returns their ids."""
        active = (Session.user_id == user_id, Session.expires_at > now)
        newest = select(Session.id).where(*active).order_by(Session.id.desc()).limit(keep)
        statement = delete(Session).where(*active, Session.id.not_in(newest)).returning(Session.id)
        return self._session.scalars(statement).all()

    def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` expired sessions; returns how many were deleted."""
        return self.delete_up_to(limit, Session.expires_at, now)
