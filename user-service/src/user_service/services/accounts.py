"""Accounts: how they begin, change their password and end."""

from datetime import UTC, datetime

from chassis.database import Unit
from chassis.errors import FieldError, Invalid
from user_service.common_passwords import HOW_MANY, is_common
from user_service.errors import LastAdmin, UserNotFound, WrongPassword
from user_service.models import User
from user_service.passwords import Passwords
from user_service.repositories import Repositories
from user_service.services import audit
from user_service.services.sessions import Identity
from user_service.services.throttling import Throttle


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
        await self._registrations.admit(ip, username.casefold())
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
                    username_key=username.casefold(),
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
        await self._prove(identity.user, current, ip)
        new_hash = await self._passwords.hash(new)

        def store(to: Repositories) -> None:
            self._replace_password(to, self._unchanged(to, identity.user), new_hash, but=identity.session_id)

        await self._write(store)
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
        await self._prove(identity.user, current, ip)

        def remove(to: Repositories) -> None:
            admins = to.users.lock_active_admins()
            user = self._unchanged(to, identity.user)
            if admins == [user.id]:
                raise LastAdmin
            to.users.remove(user)

        await self._write(remove)
        audit.log("account deleted", user_id=identity.user.id, ip=ip)

    def _check(self, password: str, pointer: str) -> None:
        if len(password) < self._password_min_length:
            shortest = f"The password needs at least {self._password_min_length} characters"
            raise Invalid([FieldError(pointer, shortest)])
        if is_common(password):
            raise Invalid([FieldError(pointer, f"This is one of the {HOW_MANY:,} most common passwords")])

    async def _prove(self, user: User, password: str, ip: str | None) -> None:
        await self._logins.admit(ip, user.username_key)
        verdict = await self._passwords.verify(password, user.password_hash)
        if not verdict.matches:
            audit.log("password refused", user_id=user.id, ip=ip)
            raise WrongPassword
        await self._logins.forget(ip, user.username_key)

    @staticmethod
    def _unchanged(to: Repositories, user: User) -> User:
        """The account's row, locked, with the password that was proven; raises WrongPassword where it has another."""
        locked = to.users.find(user.id, for_update=True)
        if locked is None or locked.password_hash != user.password_hash:
            raise WrongPassword
        return locked

    @staticmethod
    def _replace_password(to: Repositories, user: User, new_hash: str, *, but: int | None = None) -> None:
        user.password_hash = new_hash
        user.updated_at = datetime.now(UTC)
        to.sessions.end_all(user.id, but=but)
