"""How accounts are stored and found."""

from typing import ClassVar

from chassis.errors import DomainError
from chassis.repository import BaseRepository
from user_service.errors import UsernameTaken
from user_service.models import User


class UserRepository(BaseRepository[User]):
    model = User
    conflicts: ClassVar[dict[str, type[DomainError]]] = {"users.username_key": UsernameTaken}

    def find_by_username(self, username: str) -> User | None:
        """The account of this name, whatever the case of its letters."""
        return self._one(self.base().where(User.username_key == username.casefold()))
