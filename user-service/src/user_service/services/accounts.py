"""Accounts: how they are opened, change their password and are deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chassis.errors import FieldError, Invalid, InvalidToken
from chassis.use_cases import Service, Transactions, writes
from user_service import audit
from user_service.errors import LastAdmin, UserNotFound, WrongPassword
from user_service.security.common_passwords import HOW_MANY, is_common
from user_service.security.passwords import Passwords, normalised
from user_service.security.throttling import Throttle
from user_service.usernames import username_key

if TYPE_CHECKING:
    from user_service.models import User
    from user_service.repositories import Repositories
    from user_service.services.sessions import Identity


class Accounts(Service["Repositories"]):
    def __init__(
        self,
        transactions: Transactions[Repositories],
        passwords: Passwords,
        password_min_length: int,
        registrations: Throttle,
        logins: Throttle,
    ) -> None:
        """
        :param logins: what limits logins: whoever proves a password here counts as one who logs in
        """
        super().__init__(transactions)
        self._passwords = passwords
        self._password_min_length = password_min_length
        self._registrations = registrations
        self._logins = logins

    async def register(self, username: str, password: str, ip: str | None) -> User:
        """Open an account for whoever asks; raises what `open` does, and TooManyAttempts."""
        await self._registrations.admit(ip, username_key(username))
        return await self.open(username, password)

    async def open(self, username: str, password: str, *, is_admin: bool = False) -> User:
        """Open an account; raises Invalid for a password that is too short or too common, or UsernameTaken."""
        self._check(password, "/password")
        user = await self._insert(username, await self._passwords.hash(password), is_admin=is_admin)
        audit.log("account opened", user_id=user.id, roles=user.roles)
        return user

    async def change_password(self, identity: Identity, current: str, new: str, ip: str | None) -> None:
        """Set a new password, and revoke every other session; raises WrongPassword, Invalid or TooManyAttempts."""
        self._check(new, "/new_password")
        user, stored = identity.user, identity.user.password_hash
        await self._logins.admit(ip, user.username_key)
        while True:
            await self._prove(user, current, stored, ip)
            new_hash = await self._passwords.hash(new)
            changed = await self._change_password(user.id, stored, new_hash, session_id=identity.session_id)
            if changed is None:
                break
            stored = changed
        await self._logins.forget(ip, user.username_key)
        audit.log("password changed", user_id=user.id, ip=ip)

    async def set_password(self, username: str, new: str) -> None:
        """Set a new password without the old one, and revoke all sessions; raises UserNotFound or Invalid."""
        self._check(new, "/password")
        user = await self._set_password(username, await self._passwords.hash(new))
        audit.log("password changed", user_id=user.id)

    async def delete(self, identity: Identity, current: str, ip: str | None) -> None:
        """Delete the account, with all its sessions; its name becomes free.

        Raises WrongPassword, LastAdmin or TooManyAttempts.
        """
        user, stored = identity.user, identity.user.password_hash
        await self._logins.admit(ip, user.username_key)
        while True:
            await self._prove(user, current, stored, ip)
            changed = await self._delete(user.id, stored)
            if changed is None:
                break
            stored = changed
        await self._logins.forget(ip, user.username_key)
        audit.log("account deleted", user_id=user.id, ip=ip)

    @writes
    def _insert(self, repos: Repositories, username: str, password_hash: str, *, is_admin: bool) -> User:
        return repos.users.create(username, password_hash, datetime.now(UTC), is_admin=is_admin)

    @writes
    def _change_password(
        self, repos: Repositories, user_id: int, proven_hash: str, new_hash: str, *, session_id: int
    ) -> str | None:
        """Set the hash, and revoke all sessions but one. If the account has another hash by now, change nothing.

        :return: the hash that the account has by now, which may be of the same password at another cost
        """
        user = _lock(repos, user_id)
        if user.password_hash != proven_hash:
            return user.password_hash
        _replace_password(repos, user, new_hash, but=session_id)
        return None

    @writes
    def _set_password(self, repos: Repositories, username: str, new_hash: str) -> User:
        user = repos.users.find_by_username(username, for_update=True)
        if user is None:
            raise UserNotFound
        _replace_password(repos, user, new_hash)
        return user

    @writes
    def _delete(self, repos: Repositories, user_id: int, proven_hash: str) -> str | None:
        """Delete the account, or return the hash that it has by now, as `_change_password` does."""
        admins = repos.users.lock_active_admins()
        user = _lock(repos, user_id)
        if user.password_hash != proven_hash:
            return user.password_hash
        if admins == [user.id]:
            raise LastAdmin
        repos.users.delete(user)
        return None

    def _check(self, password: str, pointer: str) -> None:
        # As it is hashed: what is typed as two characters may be one.
        password = normalised(password)
        if len(password) < self._password_min_length:
            shortest = f"The password needs at least {self._password_min_length} characters"
            raise Invalid([FieldError(pointer, shortest)])
        if is_common(password):
            raise Invalid([FieldError(pointer, f"This is one of the {HOW_MANY:,} most common passwords")])

    async def _prove(self, user: User, password: str, stored: str, ip: str | None) -> None:
        verdict = await self._passwords.verify(password, stored)
        if not verdict.matches:
            audit.log("password refused", user_id=user.id, ip=ip)
            raise WrongPassword


def _lock(repos: Repositories, user_id: int) -> User:
    """The account's row, locked until the transaction ends; raises InvalidToken if it is gone."""
    user = repos.users.find(user_id, for_update=True)
    if user is None:
        raise InvalidToken
    return user


def _replace_password(repos: Repositories, user: User, new_hash: str, *, but: int | None = None) -> None:
    user.password_hash = new_hash
    user.updated_at = datetime.now(UTC)
    repos.sessions.revoke_all(user.id, but=but)
