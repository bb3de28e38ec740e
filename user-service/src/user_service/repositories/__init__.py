"""How accounts and sessions are stored and found."""

from dataclasses import dataclass

from user_service.repositories.sessions import SessionRepository
from user_service.repositories.users import UserRepository


@dataclass(frozen=True)
class Repositories:
    """Both, on the session of one transaction."""

    users: UserRepository
    sessions: SessionRepository
