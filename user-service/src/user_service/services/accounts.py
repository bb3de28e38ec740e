"""Accounts: registration, password changes and deletion."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chassis.errors import FieldError, Invalid, InvalidToken
from chassis.use_cases import Service, Transactions, reads, writes
from user_service import audit
from user_service.errors import LastAdmin, OwnAccount, RegistrationClosed, WrongPassword
from user_service.metrics import SESSIONS_REVOKED
from user_service.roles import roles_of
from user_service.security.common_passwords import COMMON_PASSWORD_COUNT
from user_service.security.networks import widest_network
from user_service.security.passwords import Passwords, normalize
from user_service.security.throttling import Throttle
from user_service.services.administration import delete_account, lock_account, require_admin, require_user
from user_service.usernames import username_key

if TYPE_CHECKING:
    from user_service.models import User
    from user_service.repositories import Repositories
    from user_service.schemas import Registration
    from user_service.services.sessions import Identity


class Accounts(Service["Repositories"]):
    def __init__(
        self,
        transactions: Transactions[Repositories],
        passwords: Passwords,
        registrations: Throttle,
        logins: Throttle,
        *,
        registration_open: bool,
        reserved_usernames: Sequence[str],
        password_min_length: int,
        reject_common_passwords: bool,
    ) -> None:
        """
        :param logins: the limits of logins, which also apply to other password checks
        :param reserved_usernames: those that can't be registered
        """
        super().__init__(transactions)
        self._passwords = passwords
        self._registrations = registrations
        self._logins = logins
        self._registration_open = registration_open
        self._reserved_usernames = {username_key(name) for name in reserved_usernames}
        self._password_min_length = password_min_length
        self._reject_common_passwords = reject_common_passwords

    async def register(self, registration: Registration, ip: str | None) -> User:
        """Create an account, within the limits for registrations.

        Raises RegistrationClosed, TooManyAttempts, Invalid for a reserved username, and the errors of `create`.
        """
        if not self._registration_open:
            raise RegistrationClosed
        account = username_key(registration.username)
        await self._registrations.count(ip, account)
        if account in self._reserved_usernames:
            raise Invalid([FieldError("/username", "This username is reserved")])
        return await self.create(registration, stranger=True, client=widest_network(ip))

    async def create_as_admin(self, admin: Identity, registration: Registration) -> User:
        """Create an account for another user; raises AdminsOnly and the errors of `create`."""
        require_admin(admin)
        return await self.create(registration, by=admin.user_id)

    async def create(
        self,
        registration: Registration,
        *,
        is_admin: bool = False,
        by: int | None = None,
        stranger: bool = False,
        client: str | None = None,
    ) -> User:
        """Create an account; raises UsernameTaken, or Invalid if the password is too short or too easy to guess.

        :param by: id of the admin; None for a registration or an operator
        :param stranger: as for `Passwords.hash`
        :param client: as for `Passwords.hash`
        """
        await self._check_new_password(
            registration.password, registration.username, "/password", stranger=stranger, client=client
        )
        fields = registration.model_dump(exclude={"password"})
        password_hash = await self._passwords.hash(registration.password, stranger=stranger, client=client)
        user = await self._insert(fields, password_hash, is_admin=is_admin)
        audit.log("account opened", user_id=user.id, by=by, roles=roles_of(user))
        return user

    async def change_password(self, identity: Identity, current: str, new: str, ip: str | None) -> None:
        """Change the password and revoke every other session; raises WrongPassword, Invalid or TooManyAttempts."""
        user, stored = identity.user, identity.user.password_hash
        if normalize(new) == normalize(current):
            raise Invalid([FieldError("/new_password", "The new password is the same as the current one")])
        await self._check_new_password(new, user.username, "/new_password", client=widest_network(ip))
        async with self._logins.attempt(ip, user.username_key) as attempt:
            attempt.user_id = user.id
            while True:
                await self._verify_password(user, current, stored, ip)
                new_hash = await self._passwords.hash(new, client=widest_network(ip))
                changed, revoked = await self._change_password(
                    user.id, stored, new_hash, session_id=identity.session_id
                )
                if changed is None:
                    break
                stored = changed
        SESSIONS_REVOKED.add(revoked, "password_changed")
        audit.log("password changed", user_id=user.id, ip=ip)

    async def set_password(self, username: str, new: str) -> None:
        """Set the password without the old one and revoke all sessions; raises UserNotFound or Invalid."""
        await self._check_new_password(new, username, "/password")
        user, _ = await self._set_password(username, await self._passwords.hash(new), by=None)
        audit.log("password changed", user_id=user.id, by=None)

    async def set_password_as_admin(self, admin: Identity, user_id: int, new: str) -> None:
        """Set the password of another user and revoke all sessions.

        Raises AdminsOnly, OwnAccount, UserNotFound or Invalid.
        """
        require_admin(admin)
        if user_id == admin.user_id:
            raise OwnAccount
        user = await self._find(user_id)
        await self._check_new_password(new, user.username, "/new_password")
        user, revoked = await self._set_password(user_id, await self._passwords.hash(new), by=admin.user_id)
        SESSIONS_REVOKED.add(revoked, "password_changed")
        audit.log("password changed", user_id=user.id, by=admin.user_id)

    async def delete(self, identity: Identity, current: str, ip: str | None) -> None:
        """Delete the account and its sessions; its username becomes available.

        Raises WrongPassword, LastAdmin or TooManyAttempts.
        """
        user, stored = identity.user, identity.user.password_hash
        async with self._logins.attempt(ip, user.username_key) as attempt:
            attempt.user_id = user.id
            while True:
                await self._verify_password(user, current, stored, ip)
                changed, revoked = await self._delete(user.id, stored)
                if changed is None:
                    break
                stored = changed
        SESSIONS_REVOKED.add(revoked, "account_deleted")
        audit.log("account deleted", user_id=user.id, ip=ip)

    @reads
    def _find(self, repos: Repositories, user_id: int) -> User:
        return require_user(repos.users.find(user_id))

    @writes
    def _insert(self, repos: Repositories, fields: dict[str, Any], password_hash: str, *, is_admin: bool) -> User:
        return repos.users.create(fields, password_hash, datetime.now(UTC), is_admin=is_admin)

    @writes
    def _change_password(
        self, repos: Repositories, user_id: int, verified_hash: str, new_hash: str, *, session_id: int
    ) -> tuple[str | None, int]:
        """Store the new hash and revoke all other sessions, unless the hash has changed since it was verified.

        :return: None if done; otherwise the current hash, which may be of the same password at another cost. And how
            many sessions were revoked.
        """
        user = _lock(repos, user_id)
        if user.password_hash != verified_hash:
            return user.password_hash, 0
        return None, _replace_password(repos, user, new_hash, except_id=session_id)

    @writes
    def _set_password(
        self, repos: Repositories, account: int | str, new_hash: str, *, by: int | None
    ) -> tuple[User, int]:
        """The account, and how many sessions were revoked."""
        _, user = lock_account(repos, account, by=by)
        return user, _replace_password(repos, user, new_hash)

    @writes
    def _delete(self, repos: Repositories, user_id: int, verified_hash: str) -> tuple[str | None, int]:
        """Delete the account, or return the current hash if it has changed, like `_change_password`."""
        admins = repos.users.lock_active_admins()
        user = _lock(repos, user_id)
        if user.password_hash != verified_hash:
            return user.password_hash, 0
        if admins == [user.id]:
            raise LastAdmin
        return None, delete_account(repos, user)

    async def _check_new_password(
        self, password: str, username: str, pointer: str, *, stranger: bool = False, client: str | None = None
    ) -> None:
        """Raises Invalid.

        :param stranger: as for `Passwords.hash`
        :param client: as for `Passwords.hash`
        """
        # Normalization can merge two typed characters into one.
        password = normalize(password)
        if len(password) < self._password_min_length:
            detail = f"The password must have at least {self._password_min_length} characters"
            raise Invalid([FieldError(pointer, detail)])
        if not self._reject_common_passwords:
            return
        if await self._passwords.is_common(password, stranger=stranger, client=client):
            detail = f"The password is one of the {COMMON_PASSWORD_COUNT:,} most common ones"
            raise Invalid([FieldError(pointer, detail)])
        if await self._passwords.is_guessable(password, username, stranger=stranger, client=client):
            detail = (
                "The password is too easy to guess. It must not be the username, a common word, a repeated character, "
                "a row of keys or another pattern"
            )
            raise Invalid([FieldError(pointer, detail)])

    async def _verify_password(self, user: User, password: str, stored: str, ip: str | None) -> None:
        verification = await self._passwords.verify(password, stored, client=widest_network(ip))
        if not verification.matches:
            audit.log("password refused", user_id=user.id, ip=ip)
            raise WrongPassword


def _lock(repos: Repositories, user_id: int) -> User:
    """Lock the account until the transaction ends; raises InvalidToken if it was deleted."""
    user = repos.users.find(user_id, for_update=True)
    if user is None:
        raise InvalidToken
    return user


def _replace_password(repos: Repositories, user: User, new_hash: str, *, except_id: int | None = None) -> int:
    """Returns how many sessions were revoked."""
    user.password_hash = new_hash
    user.updated_at = datetime.now(UTC)
    return repos.sessions.revoke_all(user.id, except_id=except_id)
