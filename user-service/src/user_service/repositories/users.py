"""Repository for accounts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import case, exists, func, literal, or_, select

from chassis.database.repository import BaseRepository, Condition
from chassis.errors import DomainError
from user_service.errors import UsernameTaken
from user_service.models import KnownNetwork, User
from user_service.models.sessions import MAX_IP_LENGTH
from user_service.usernames import username_key


@dataclass(frozen=True)
class Credentials:
    """What a login is checked against; None and False if the username is unknown."""

    user_id: int | None
    password_hash: str | None
    is_active: bool | None
    network_is_known: bool
    """Whether the account has been used from the network of the login."""


class UserRepository(BaseRepository[User]):
    model = User
    conflicts: ClassVar[dict[str, type[DomainError]]] = {"users.username_key": UsernameTaken}

    def create(self, fields: Mapping[str, Any], password_hash: str, now: datetime, *, is_admin: bool) -> User:
        """Insert an active account; raises UsernameTaken.

        :param fields: what the user gives at registration, except the password
        """
        return self.add(
            User(
                **fields,
                username_key=username_key(fields["username"]),
                password_hash=password_hash,
                is_active=True,
                is_admin=is_admin,
                created_at=now,
                updated_at=now,
            )
        )

    def rename(self, user: User, username: str) -> None:
        """Change the username; raises UsernameTaken."""
        user.username, user.username_key = username, username_key(username)
        self.flush()

    def find_by_username(self, username: str, *, for_update: bool = False) -> User | None:
        """The account with this username, case-insensitive. `for_update` locks it until the transaction ends."""
        statement = self.base().where(User.username_key == username_key(username))
        return self._one(statement.with_for_update() if for_update else statement)

    def find_credentials(self, username: str, network: str) -> Credentials:
        """What a login with this username from this network is checked against.

        Always returns one row of columns. Loading an object, or a row only for existing accounts, would make known
        usernames measurably slower than unknown ones.
        """
        one_row = select(literal(1)).subquery()
        # Looks for the id 0, which no account has, if the username is unknown.
        is_known = (
            exists()
            .where(KnownNetwork.user_id == func.coalesce(User.id, 0), KnownNetwork.network == network[:MAX_IP_LENGTH])
            .correlate(User)
        )
        statement = (
            select(User.id, User.password_hash, User.is_active, is_known)
            .select_from(one_row)
            .outerjoin(User, User.username_key == username_key(username))
        )
        return Credentials(*self._session.execute(statement).one())

    def highest_cost(self, patterns: Mapping[int, Sequence[str]]) -> int | None:
        """The highest cost that a password hash has; it reads every account.

        :param patterns: the costs to look for, and the LIKE patterns of hashes with this cost
        """
        matches = {cost: or_(*map(User.password_hash.like, each)) for cost, each in patterns.items()}
        whens = [(matches[cost], literal(cost)) for cost in sorted(matches, reverse=True)]
        return self._session.scalar(select(func.max(case(*whens)))) if whens else None

    def list_after(
        self, row_id: int, limit: int, *, q: str | None, is_active: bool | None, is_admin: bool | None
    ) -> Sequence[User]:
        """Up to `limit` accounts after this id, ordered by id. `q` is part of the username; None disables a filter."""
        conditions: list[Condition] = []
        if q is not None:
            conditions.append(User.username_key.contains(username_key(q), autoescape=True))
        if is_active is not None:
            conditions.append(User.is_active == is_active)
        if is_admin is not None:
            conditions.append(User.is_admin == is_admin)
        return self.page(limit, *conditions, after=(row_id,))

    def lock_active_admins(self) -> Sequence[int]:
        """The ids of the active admins, whose rows are locked until the transaction ends."""
        statement = select(User.id).where(User.is_admin, User.is_active).order_by(User.id).with_for_update()
        return self._session.scalars(statement).all()
