"""What admins may do with the accounts of others, and the rule that there is always one left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chassis.database.transactions import Unit
from user_service import audit
from user_service.errors import AdminsOnly, LastAdmin, UserNotFound
from user_service.models import Session, User
from user_service.repositories import Repositories
from user_service.services.sessions import MOST_LISTED, Identity


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
        return _found(await self._read(lambda of: of.users.find(user_id)))

    async def change(self, admin: Identity, user_id: int, change: Change) -> User:
        """Raises AdminsOnly, UserNotFound or LastAdmin. An account that is disabled has no sessions any more."""
        _require_admin(admin)
        return await self._change(lambda to: to.users.find(user_id, for_update=True), change, by=admin.user.id)

    async def change_as_operator(self, username: str, change: Change) -> User:
        """The same for whoever has the command line; raises UserNotFound or LastAdmin."""
        return await self._change(lambda to: to.users.find_by_username(username, for_update=True), change, by=None)

    async def sessions_of(self, username: str) -> Sequence[Session]:
        """The sessions of an account that go on, the newest first, up to MOST_LISTED; raises UserNotFound."""

        def find(of: Repositories) -> Sequence[Session]:
            user = _found(of.users.find_by_username(username))
            return of.sessions.of_user(user.id, datetime.now(UTC), MOST_LISTED)

        return await self._read(find)

    async def end_sessions_of(self, username: str) -> None:
        """End all sessions of an account; raises UserNotFound."""

        def end(to: Repositories) -> User:
            user = _found(to.users.find_by_username(username, for_update=True))
            to.sessions.end_all(user.id)
            return user

        user = await self._write(end)
        audit.log("sessions revoked", user_id=user.id)

    async def _change(self, find: Callable[[Repositories], User | None], change: Change, *, by: int | None) -> User:
        def apply(to: Repositories) -> tuple[User, bool]:
            # Whoever changes an account locks all admins, so that two at once do not take the last two away, and
            # nobody changes anything who has just ceased to be one.
            admins = to.users.lock_active_admins()
            if by is not None and by not in admins:
                raise AdminsOnly
            user = _found(find(to))
            before = (user.is_active, user.is_admin)
            if change.is_active is not None:
                user.is_active = change.is_active
            if change.is_admin is not None:
                user.is_admin = change.is_admin
            if admins == [user.id] and not (user.is_active and user.is_admin):
                raise LastAdmin
            if (user.is_active, user.is_admin) == before:
                return user, False
            user.updated_at = datetime.now(UTC)
            if not user.is_active:
                to.sessions.end_all(user.id)
            return user, True

        user, changed = await self._write(apply)
        if changed:
            audit.log("account changed", user_id=user.id, by=by, is_active=user.is_active, roles=user.roles)
        return user


def _found(user: User | None) -> User:
    if user is None:
        raise UserNotFound
    return user


def _require_admin(identity: Identity) -> None:
    if not identity.user.is_admin:
        raise AdminsOnly
