"""The tables of the user service."""

from user_service.models.networks import KnownNetwork
from user_service.models.schema import Base
from user_service.models.sessions import Session
from user_service.models.users import User

__all__ = ["Base", "KnownNetwork", "Session", "User"]
