"""Repositories for accounts and sessions."""

from sqlalchemy.orm import Session

from user_service.repositories.sessions import SessionRepository
from user_service.repositories.users import UserRepository


class Repositories:
    """All repositories, bound to the database session of one transaction."""

    def __init__(self, session: Session) -> None:
        self.users = UserRepository(session)
        self.sessions = SessionRepository(session)
