"""Repositories for accounts, their sessions and their networks."""

from sqlalchemy.orm import Session

from user_service.repositories.networks import KnownNetworkRepository
from user_service.repositories.sessions import SessionRepository
from user_service.repositories.users import UserRepository


class Repositories:
    """All repositories, bound to the database session of one transaction."""

    def __init__(self, session: Session) -> None:
        self.users = UserRepository(session)
        self.sessions = SessionRepository(session)
        self.known_networks = KnownNetworkRepository(session)
