"""What admins may do with the accounts of others, and the rule that there is always one left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chassis.database import Unit
from user_service.errors import AdminsOnly, LastAdmin, UserNotFound
from user_service.models import User
from user_service.repositories import Repositories
from user_service.services import audit
from user_service.services.sessions import Identity


@dataclass(frozen=True)
class Change:
    """What is to be set on an account; None leaves it as it is."""

    is_active: bool | None = None
    is_admin: bool | None = None


class Administration:
    def __init__(self, read: Unit[Repositories], write: Unit[Repositories]) -> None:
        self._read = read
        self._write = write

    async def page(
        self,
        admin: Identity,
        after: int,
        limit: int,
        *,
        q: str | None = None,
        is_active: bool | None = None,
        is_admin: bool | None = None,
    ) -> tuple[Sequence[User], bool]:
        """The accounts after this id, by id, and whether there are more; raises AdminsOnly."""
        _require_admin(admin)
        users = await self._read(
            lambda of: of.users.after(after, limit + 1, q=q, is_active=is_active, is_admin=is_admin)
        )
        return users[:limit], len(users) > limit

    async def get(self, admin: Identity, user_id: int) -> User:
        """Raises AdminsOnly or UserNotFound."""
        _require_admin(admin)
        user = await self._read(lambda of: of.users.find(user_id))
        if user is None:
            raise UserNotFound
        return user

    async def change(self, admin: Identity, user_id: int, change: Change) -> User:
        """Raises AdminsOnly, UserNotFound or LastAdmin. An account that is disabled has no sessions any more."""
        _require_admin(admin)
        return await self._write(lambda to: apply(to, user_id, change, by=admin.user.id))


def apply(to: Repositories, user_id: int, change: Change, *, by: int | None) -> User:
    """Make the change, by this admin or, where it is None, on the command line."""
    # Whoever changes an account locks all admins, so that two at once do not take the last two away, and nobody
    # changes anything who has just ceased to be one.
    admins = to.users.lock_active_admins()
    if by is not None and by not in admins:
        raise AdminsOnly
    user = to.users.find(user_id, for_update=True)
    if user is None:
        raise UserNotFound
    before = (user.is_active, user.is_admin)
    if change.is_active is not None:
        user.is_active = change.is_active
    if change.is_admin is not None:
        user.is_admin = change.is_admin
    if admins == [user.id] and not (user.is_active and user.is_admin):
        raise LastAdmin
    if (user.is_active, user.is_admin) == before:
        return user
    user.updated_at = datetime.now(UTC)
    to.users.flush()
    if not user.is_active:
        to.sessions.end_all(user.id)
    audit.log("account changed", user_id=user.id, by=by, is_active=user.is_active, roles=user.roles)
    return user


def _require_admin(identity: Identity) -> None:
    if not identity.user.is_admin:
        raise AdminsOnly
