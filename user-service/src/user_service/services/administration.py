"""Account administration, which never removes the last active admin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chassis.use_cases import Service, reads, writes
from user_service import audit
from user_service.errors import AdminsOnly, LastAdmin, OwnAccount, SessionNotFound, UserNotFound
from user_service.metrics import SESSIONS_REVOKED
from user_service.roles import roles_of
from user_service.services.session_pages import SessionPage, page_of_sessions
from user_service.services.sessions import MAX_LISTED_SESSIONS, Identity

if TYPE_CHECKING:
    from user_service.models import Session, User
    from user_service.repositories import Repositories


@dataclass(frozen=True)
class AccountUpdate:
    """New values for an account; None leaves a field unchanged."""

    username: str | None = None
    is_active: bool | None = None
    is_admin: bool | None = None


class Administration(Service["Repositories"]):
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
        """The accounts after this id, ordered by id, and whether there are more; raises AdminsOnly."""
        require_admin(admin)
        users = await self._list(after, limit + 1, q=q, is_active=is_active, is_admin=is_admin)
        others = [user.id for user in users[:limit] if user.id != admin.user_id]
        if others:
            audit.log("accounts listed", user_id=None, by=admin.user_id, account_ids=others)
        return users[:limit], len(users) > limit

    async def get(self, admin: Identity, user_id: int) -> User:
        """Get an account; raises AdminsOnly or UserNotFound."""
        require_admin(admin)
        user = require_user(await self._find(user_id))
        if user_id != admin.user_id:
            audit.log("account shown", user_id=user_id, by=admin.user_id)
        return user

    async def change(self, admin: Identity, user_id: int, update: AccountUpdate) -> User:
        """Update an account; disabling it revokes its sessions.

        Raises AdminsOnly, UserNotFound, UsernameTaken or LastAdmin.
        """
        require_admin(admin)
        by = admin.user_id
        user, before, revoked = await self._change(user_id, update, by=by)
        SESSIONS_REVOKED.add(revoked, "account_disabled")
        return _log_change(user, before, by=by)

    async def change_as_operator(self, username: str, update: AccountUpdate) -> User:
        """Update an account on behalf of an operator; raises UserNotFound, UsernameTaken or LastAdmin."""
        user, before, _ = await self._change(username, update, by=None)
        return _log_change(user, before, by=None)

    async def delete(self, admin: Identity, user_id: int) -> None:
        """Delete the account of another user, and its sessions; raises AdminsOnly, UserNotFound or OwnAccount.

        Raises LastAdmin for the caller's own account if that is the last active admin.
        """
        require_admin(admin)
        SESSIONS_REVOKED.add(await self._delete(user_id, by=admin.user_id), "account_deleted")
        audit.log("account deleted", user_id=user_id, by=admin.user_id)

    async def page_of_sessions(self, admin: Identity, user_id: int, before: int | None, limit: int) -> SessionPage:
        """A page of an account's active sessions; see `page_of_sessions`. Raises AdminsOnly or UserNotFound."""
        require_admin(admin)
        page = await self._page_of_sessions(user_id, admin.session_id, before, limit)
        if user_id != admin.user_id:
            audit.log("sessions listed", user_id=user_id, by=admin.user_id)
        return page

    async def revoke_session(self, admin: Identity, user_id: int, session_id: int) -> None:
        """Revoke one session of an account; raises AdminsOnly, UserNotFound or SessionNotFound."""
        require_admin(admin)
        await self._revoke(user_id, session_id, by=admin.user_id)
        SESSIONS_REVOKED.add(1, "revoked_by_admin")
        audit.log("session revoked", user_id=user_id, session_id=session_id, by=admin.user_id)

    async def revoke_all_sessions(self, admin: Identity, user_id: int) -> None:
        """Revoke all sessions of an account; raises AdminsOnly or UserNotFound."""
        require_admin(admin)
        _, revoked = await self._revoke_all(user_id, by=admin.user_id)
        SESSIONS_REVOKED.add(revoked, "revoked_by_admin")
        audit.log("sessions revoked", user_id=user_id, by=admin.user_id)

    @reads
    def list_sessions(self, repos: Repositories, username: str) -> Sequence[Session]:
        """An account's active sessions, newest first, at most MAX_LISTED_SESSIONS; raises UserNotFound."""
        user = require_user(repos.users.find_by_username(username))
        return repos.sessions.list_active(user.id, datetime.now(UTC), MAX_LISTED_SESSIONS)

    async def revoke_sessions(self, username: str) -> None:
        """Revoke all sessions of an account; raises UserNotFound."""
        user, _ = await self._revoke_all(username, by=None)
        audit.log("sessions revoked", user_id=user.id, by=None)

    @reads
    def _list(
        self,
        repos: Repositories,
        after: int,
        limit: int,
        *,
        q: str | None,
        is_active: bool | None,
        is_admin: bool | None,
    ) -> Sequence[User]:
        return repos.users.list_after(after, limit, q=q, is_active=is_active, is_admin=is_admin)

    @reads
    def _find(self, repos: Repositories, user_id: int) -> User | None:
        return repos.users.find(user_id)

    @reads
    def _page_of_sessions(
        self, repos: Repositories, user_id: int, current_id: int, before: int | None, limit: int
    ) -> SessionPage:
        user = require_user(repos.users.find(user_id))
        return page_of_sessions(repos, user.id, current_id, before, limit)

    @writes
    def _revoke(self, repos: Repositories, user_id: int, session_id: int, *, by: int) -> None:
        _, user = lock_account(repos, user_id, by=by)
        if not repos.sessions.revoke(session_id, user.id):
            raise SessionNotFound

    @writes
    def _revoke_all(self, repos: Repositories, account: int | str, *, by: int | None) -> tuple[User, int]:
        """The account, and how many sessions were revoked."""
        _, user = lock_account(repos, account, by=by)
        return user, repos.sessions.revoke_all(user.id)

    @writes
    def _delete(self, repos: Repositories, user_id: int, *, by: int) -> int:
        admins, user = lock_account(repos, user_id, by=by)
        if admins == [user.id]:
            raise LastAdmin
        if user.id == by:
            raise OwnAccount
        return delete_account(repos, user)

    @writes
    def _change(
        self, repos: Repositories, account: int | str, update: AccountUpdate, *, by: int | None
    ) -> tuple[User, _State, int]:
        """Update an account; returns it, its previous state, and how many sessions were revoked."""
        admins, user = lock_account(repos, account, by=by)
        before, revoked = _State.of(user), 0
        if update.username is not None:
            repos.users.rename(user, update.username)
        if update.is_active is not None:
            user.is_active = update.is_active
        if update.is_admin is not None:
            user.is_admin = update.is_admin
        if admins == [user.id] and not (user.is_active and user.is_admin):
            raise LastAdmin
        if _State.of(user) != before:
            user.updated_at = datetime.now(UTC)
            if not user.is_active:
                revoked = repos.sessions.revoke_all(user.id)
        return user, before, revoked


@dataclass(frozen=True)
class _State:
    """What an update may change."""

    username: str
    rights: tuple[bool, bool]

    @classmethod
    def of(cls, user: User) -> _State:
        return cls(user.username, (user.is_active, user.is_admin))


def _log_change(user: User, before: _State, *, by: int | None) -> User:
    now = _State.of(user)
    if now.username != before.username:
        audit.log("account renamed", user_id=user.id, by=by, username=user.username, previous_username=before.username)
    if now.rights != before.rights:
        audit.log("account changed", user_id=user.id, by=by, is_active=user.is_active, roles=roles_of(user))
    return user


def require_user(user: User | None) -> User:
    """The account; raises UserNotFound for None."""
    if user is None:
        raise UserNotFound
    return user


def require_admin(identity: Identity) -> None:
    """Raise AdminsOnly if the caller is not an admin."""
    if not identity.user.is_admin:
        raise AdminsOnly


def delete_account(repos: Repositories, user: User) -> int:
    """Delete an account that is locked, and its sessions; returns how many."""
    revoked = repos.sessions.revoke_all(user.id)
    repos.users.delete(user)
    return revoked


def lock_account(repos: Repositories, account: int | str, *, by: int | None) -> tuple[Sequence[int], User]:
    """The ids of all active admins, and the account; all of them are locked until the transaction ends.

    Two concurrent changes can't remove the last two admins, and an admin who was just demoted can't change anything.
    Raises UserNotFound, or AdminsOnly if the admin is no longer one.

    :param account: id or username
    :param by: id of the admin; None for an operator
    """
    admins = repos.users.lock_active_admins()
    if by is not None and by not in admins:
        raise AdminsOnly
    if isinstance(account, int):
        return admins, require_user(repos.users.find(account, for_update=True))
    return admins, require_user(repos.users.find_by_username(account, for_update=True))
