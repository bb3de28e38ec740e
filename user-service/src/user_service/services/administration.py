"""Account administration, which never removes the last active admin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chassis.use_cases import Service, reads, writes
from user_service import audit
from user_service.errors import AdminsOnly, LastAdmin, UserNotFound
from user_service.services.sessions import MAX_LISTED_SESSIONS, Identity

if TYPE_CHECKING:
    from user_service.models import Session, User
    from user_service.repositories import Repositories


@dataclass(frozen=True)
class AccountUpdate:
    """New values for an account; None leaves a field unchanged."""

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
        """The accounts after this id, ordered by id, and whether there are more; raises AdminsOnly."""
        _require_admin(admin)
        users = repos.users.list_after(after, limit + 1, q=q, is_active=is_active, is_admin=is_admin)
        return users[:limit], len(users) > limit

    @reads
    def get(self, repos: Repositories, admin: Identity, user_id: int) -> User:
        """Get an account; raises AdminsOnly or UserNotFound."""
        _require_admin(admin)
        return _require_user(repos.users.find(user_id))

    async def change(self, admin: Identity, user_id: int, update: AccountUpdate) -> User:
        """Update an account; disabling it revokes its sessions. Raises AdminsOnly, UserNotFound or LastAdmin."""
        _require_admin(admin)
        by = admin.user_id
        return _log_change(*await self._change(user_id, update, by=by), by=by)

    async def change_as_operator(self, username: str, update: AccountUpdate) -> User:
        """Update an account on behalf of an operator; raises UserNotFound or LastAdmin."""
        return _log_change(*await self._change(username, update, by=None), by=None)

    @reads
    def list_sessions(self, repos: Repositories, username: str) -> Sequence[Session]:
        """An account's active sessions, newest first, at most MAX_LISTED_SESSIONS; raises UserNotFound."""
        user = _require_user(repos.users.find_by_username(username))
        return repos.sessions.list_active(user.id, datetime.now(UTC), MAX_LISTED_SESSIONS)

    async def revoke_sessions(self, username: str) -> None:
        """Revoke all sessions of an account; raises UserNotFound."""
        user = await self._revoke_all(username)
        audit.log("sessions revoked", user_id=user.id)

    @writes
    def _revoke_all(self, repos: Repositories, username: str) -> User:
        user = _require_user(repos.users.find_by_username(username, for_update=True))
        repos.sessions.revoke_all(user.id)
        return user

    @writes
    def _change(
        self, repos: Repositories, account: int | str, update: AccountUpdate, *, by: int | None
    ) -> tuple[User, bool]:
        """Update an account; returns it and whether anything changed.

        :param account: id or username
        :param by: id of the admin; None for an operator
        """
        # Every update locks all active admins. Two concurrent updates can't remove the last two admins, and an admin
        # who was just demoted can't change anything.
        admins = repos.users.lock_active_admins()
        if by is not None and by not in admins:
            raise AdminsOnly
        if isinstance(account, int):
            user = _require_user(repos.users.find(account, for_update=True))
        else:
            user = _require_user(repos.users.find_by_username(account, for_update=True))
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


def _log_change(user: User, changed: bool, *, by: int | None) -> User:  # noqa: FBT001 - as `_change` returns it
    if changed:
        audit.log("account changed", user_id=user.id, by=by, is_active=user.is_active, roles=user.roles)
    return user


def _require_user(user: User | None) -> User:
    if user is None:
        raise UserNotFound
    return user


def _require_admin(identity: Identity) -> None:
    if not identity.user.is_admin:
        raise AdminsOnly
