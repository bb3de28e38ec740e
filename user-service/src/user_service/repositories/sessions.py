"""How sessions are stored and found."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from chassis.database.repository import BaseRepository
from user_service.models import Session, User
from user_service.models.sessions import LONGEST_ADDRESS, LONGEST_USER_AGENT


class SessionRepository(BaseRepository[Session]):
    model = Session

    def find_user(self, session_id: int, user_id: int, now: datetime) -> User | None:
        """The active account of a session that goes on at this moment, in one query."""
        statement = (
            select(User)
            .join(Session, Session.user_id == User.id)
            .where(Session.id == session_id, User.id == user_id, Session.expires_at > now, User.is_active)
        )
        return self._session.scalars(statement).one_or_none()

    def of_user(self, user_id: int, now: datetime, limit: int) -> Sequence[Session]:
        """Up to `limit` sessions of an account that go on, the newest first."""
        return self.page(limit, Session.user_id == user_id, Session.expires_at > now, descending=True)

    def create(
        self, user_id: int, now: datetime, expires_at: datetime, user_agent: str | None, ip: str | None
    ) -> Session:
        """Insert a session, whose id its first refresh token contains; the caller then sets the token's hashes."""
        return self.add(
            Session(
                user_id=user_id,
                created_at=now,
                last_used_at=now,
                expires_at=expires_at,
                user_agent=user_agent[:LONGEST_USER_AGENT] if user_agent else None,
                ip=ip[:LONGEST_ADDRESS] if ip else None,
                family_hash="",
                refresh_hash="",
            )
        )

    def revoke(self, session_id: int, user_id: int) -> bool:
        """Revoke this session of this account; false where there is none."""
        statement = delete(Session).where(Session.id == session_id, Session.user_id == user_id).returning(Session.id)
        return self._session.scalar(statement) is not None

    def revoke_all(self, user_id: int, *, but: int | None = None) -> None:
        """Revoke all sessions of an account, except the one with the id `but`."""
        statement = delete(Session).where(Session.user_id == user_id)
        self._session.execute(statement if but is None else statement.where(Session.id != but))

    def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` sessions that have expired; how many there were."""
        return self.delete_up_to(limit, Session.expires_at, now)
