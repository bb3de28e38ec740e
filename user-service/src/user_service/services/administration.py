"""What admins may do with the accounts of others, and the rule that there is always one left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chassis.use_cases import Service, reads, writes
from user_service import audit
from user_service.errors import AdminsOnly, LastAdmin, UserNotFound
from user_service.services.sessions import MOST_LISTED, Identity

if TYPE_CHECKING:
    from user_service.models import Session, User
    from user_service.repositories import Repositories


@dataclass(frozen=True)
class AccountUpdate:
    """What is to be set on an account; None leaves it as it is."""

    is_active: bool | None = None
    is_admin: bool | None = None


class Administration(Service["Repositories"]):
    @reads
    def page(
        self,
        repos: Repositories,
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
        users = repos.users.after(after, limit + 1, q=q, is_active=is_active, is_admin=is_admin)
        return users[:limit], len(users) > limit

    @reads
    def get(self, repos: Repositories, admin: Identity, user_id: int) -> User:
        """Raises AdminsOnly or UserNotFound."""
        _require_admin(admin)
        return _found(repos.users.find(user_id))

    async def change(self, admin: Identity, user_id: int, update: AccountUpdate) -> User:
        """Raises AdminsOnly, UserNotFound or LastAdmin. Disabling an account revokes its sessions."""
        _require_admin(admin)
        by = admin.user_id
        return _audited(*await self._change(user_id, update, by=by), by=by)

    async def change_as_operator(self, username: str, update: AccountUpdate) -> User:
        """The same for an operator on the command line; raises UserNotFound or LastAdmin."""
        return _audited(*await self._change(username, update, by=None), by=None)

    @reads
    def sessions_of(self, repos: Repositories, username: str) -> Sequence[Session]:
        """The active sessions of an account, the newest first, up to MOST_LISTED; raises UserNotFound."""
        user = _found(repos.users.find_by_username(username))
        return repos.sessions.of_user(user.id, datetime.now(UTC), MOST_LISTED)

    async def revoke_sessions_of(self, username: str) -> None:
        """Revoke all sessions of an account; raises UserNotFound."""
        user = await self._revoke_all(username)
        audit.log("sessions revoked", user_id=user.id)

    @writes
    def _revoke_all(self, repos: Repositories, username: str) -> User:
        user = _found(repos.users.find_by_username(username, for_update=True))
        repos.sessions.revoke_all(user.id)
        return user

    @writes
    def _change(
        self, repos: Repositories, account: int | str, update: AccountUpdate, *, by: int | None
    ) -> tuple[User, bool]:
        """The account, and whether this changed it.

        :param account: its id or its name
        """
        # Every change of an account locks all admins, so that two at once do not take the last two away, and an admin
        # who has just ceased to be one changes nothing.
        admins = repos.users.lock_active_admins()
        if by is not None and by not in admins:
            raise AdminsOnly
        if isinstance(account, int):
            user = _found(repos.users.find(account, for_update=True))
        else:
            user = _found(repos.users.find_by_username(account, for_update=True))
        before = (user.is_active, user.is_admin)
        if update.is_active is not None:
            user.is_active = update.is_active
        if update.is_admin is not None:
            user.is_admin = update.is_admin
        if admins == [user.id] and not (user.is_active and user.is_admin):
            raise LastAdmin
        if (user.is_active, user.is_admin) == before:
            return user, False
        user.updated_at = datetime.now(UTC)
        if not user.is_active:
            repos.sessions.revoke_all(user.id)
        return user, True


def _audited(user: User, changed: bool, *, by: int | None) -> User:  # noqa: FBT001 - as `_change` returns it
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
