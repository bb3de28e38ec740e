"""Accounts: how they begin, change their password and end."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from chassis.database.transactions import Unit
from chassis.errors import FieldError, Invalid, InvalidToken
from user_service import audit
from user_service.errors import LastAdmin, UserNotFound, WrongPassword
from user_service.models import User
from user_service.models.users import username_key
from user_service.repositories import Repositories
from user_service.security.common_passwords import HOW_MANY, is_common
from user_service.security.passwords import Passwords, normalised
from user_service.security.throttling import Throttle
from user_service.services.sessions import Identity


class Accounts:
    def __init__(
        self,
        write: Unit[Repositories],
        passwords: Passwords,
        password_min_length: int,
        registrations: Throttle,
        logins: Throttle,
    ) -> None:
        """
        :param logins: what limits logins: whoever proves a password here counts as one who logs in
        """
        self._write = write
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
        password_hash = await self._passwords.hash(password)
        now = datetime.now(UTC)
        user = await self._write(
            lambda to: to.users.add(
                User(
                    username=username,
                    username_key=username_key(username),
                    password_hash=password_hash,
                    is_active=True,
                    is_admin=is_admin,
                    created_at=now,
                    updated_at=now,
                )
            )
        )
        audit.log("account opened", user_id=user.id, roles=user.roles)
        return user

    async def change_password(self, identity: Identity, current: str, new: str, ip: str | None) -> None:
        """Set a new password, and end every other session; raises WrongPassword, Invalid or TooManyAttempts."""
        self._check(new, "/new_password")

        async def change(proven_hash: str) -> str | None:
            new_hash = await self._passwords.hash(new)

            def store(to: Repositories) -> str | None:
                user = self._locked(to, identity.user.id)
                if user.password_hash != proven_hash:
                    return user.password_hash
                self._replace_password(to, user, new_hash, but=identity.session_id)
                return None

            return await self._write(store)

        await self._with_proof(identity.user, current, ip, change)
        audit.log("password changed", user_id=identity.user.id, ip=ip)

    async def set_password(self, username: str, new: str) -> None:
        """Set a new password without the old one, and end all sessions; raises UserNotFound or Invalid."""
        self._check(new, "/password")
        new_hash = await self._passwords.hash(new)

        def store(to: Repositories) -> User:
            user = to.users.find_by_username(username, for_update=True)
            if user is None:
                raise UserNotFound
            self._replace_password(to, user, new_hash)
            return user

        user = await self._write(store)
        audit.log("password changed", user_id=user.id)

    async def delete(self, identity: Identity, current: str, ip: str | None) -> None:
        """End the account, with all its sessions; its name becomes free.

        Raises WrongPassword, LastAdmin or TooManyAttempts.
        """

        async def delete(proven_hash: str) -> str | None:
            def remove(to: Repositories) -> str | None:
                admins = to.users.lock_active_admins()
                user = self._locked(to, identity.user.id)
                if user.password_hash != proven_hash:
                    return user.password_hash
                if admins == [user.id]:
                    raise LastAdmin
                to.users.remove(user)
                return None

            return await self._write(remove)

        await self._with_proof(identity.user, current, ip, delete)
        audit.log("account deleted", user_id=identity.user.id, ip=ip)

    def _check(self, password: str, pointer: str) -> None:
        # As it is hashed: what is typed as two characters may be one.
        password = normalised(password)
        if len(password) < self._password_min_length:
            shortest = f"The password needs at least {self._password_min_length} characters"
            raise Invalid([FieldError(pointer, shortest)])
        if is_common(password):
            raise Invalid([FieldError(pointer, f"This is one of the {HOW_MANY:,} most common passwords")])

    async def _with_proof(
        self, user: User, password: str, ip: str | None, act: Callable[[str], Awaitable[str | None]]
    ) -> None:
        """Prove the password, then act on it; raises WrongPassword or TooManyAttempts.

        :param act: is given the hash that the password was proven for. Where the account has another one by now, which
            may be of the same password at another cost, it changes nothing and returns it, to be proven again.
        """
        await self._logins.admit(ip, user.username_key)
        stored: str | None = user.password_hash
        while stored is not None:
            verdict = await self._passwords.verify(password, stored)
            if not verdict.matches:
                audit.log("password refused", user_id=user.id, ip=ip)
                raise WrongPassword
            stored = await act(stored)
        await self._logins.forget(ip, user.username_key)

    @staticmethod
    def _locked(to: Repositories, user_id: int) -> User:
        """The account's row, which stays as it is until this transaction ends; raises InvalidToken if it is gone."""
        user = to.users.find(user_id, for_update=True)
        if user is None:
            raise InvalidToken
        return user

    @staticmethod
    def _replace_password(to: Repositories, user: User, new_hash: str, *, but: int | None = None) -> None:
        user.password_hash = new_hash
        user.updated_at = datetime.now(UTC)
        to.sessions.end_all(user.id, but=but)
